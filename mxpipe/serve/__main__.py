"""``python -m mxpipe.serve``: what :mod:`mxpipe.serve.process` starts."""

import argparse
import sys

from mxpipe.serve import cli

parser = argparse.ArgumentParser(prog="mxpipe serve")
cli.add_arguments(parser)
sys.exit(cli.run(parser.parse_args()))
