"""Commands; nothing else imports this package."""
