"""A process that has imported everything and forks one `scaledrop` after the other, without importing torch each time.

These are real processes to be killed.

Reads a request a line, as JSON; answers with the number of the process, and then with how it ended.
"""

import json
import os
import signal
import sys
import warnings


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run(request)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(request: dict) -> None:
    """In the child: `scaledrop ARGV` in its folder, with a fault."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(request["folder"])
    os.environ.update(request["env"])
    code = 70
    try:
        if request["fault"]:
            import injections

            name, *arguments = request["fault"]
            getattr(injections, name)(*arguments)
        from lit_scaledrop.__main__ import main

        code = main(request["argv"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve()
