"""Runs a command for as long as standard input is open, and ends it and all its children after that.

Standard input is a pipe from the test process: however that process ends, the pipe closes. The working directory is the
command's own, and goes with it.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading

folder = os.getcwd()


def end(code):
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)


def watch():
    while sys.stdin.buffer.read(4096):
        pass
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
        except ProcessLookupError:
            break
        try:
            child.wait(2)
        except subprocess.TimeoutExpired:
            pass
    end(0)


threading.Thread(target=watch, daemon=True).start()
code = child.wait()
# What the command left behind in its group goes with it.
try:
    os.killpg(child.pid, signal.SIGKILL)
except ProcessLookupError:
    pass
end(code if code >= 0 else 128 - code)
