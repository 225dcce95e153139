"""Commands; nothing else imports this room."""
