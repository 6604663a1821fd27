"""What the Python scripts share: where the broker is, and how a scenario is run."""
import os
import sys
import time

BOOTSTRAP = os.environ["BOOTSTRAP"]
CA_FILE = os.environ.get("CA_FILE")
SASL_MECHANISM = os.environ.get("SASL_MECHANISM")
SASL_USERNAME = os.environ.get("SASL_USERNAME")
SASL_PASSWORD = os.environ.get("SASL_PASSWORD")
PROTOCOL = ("SASL_" if SASL_MECHANISM else "") + ("SSL" if CA_FILE else "PLAINTEXT")
CODECS = os.environ.get("CODECS", "none gzip snappy lz4 zstd").split()
START_TIME = 1_704_067_200_000  # 2024-01-01, in ms


def messages(count):
    return [(f"key-{i % 7}", f"value-{i}-" + "x" * 100) for i in range(count)]


def same(expected, found, what):
    if expected != found:
        sys.exit(f"{what}: expected {expected!r:.2000}\nfound {found!r:.2000}")


def deadline(seconds, what):
    """A generator of turns that ends the script when time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
    sys.exit(f"{what}: not within {seconds} s")


def main(scenarios):
    """Runs the scenarios named on the command line, or all."""
    for name in sys.argv[1:] or scenarios:
        scenarios[name]()
        print("ok", name, flush=True)
