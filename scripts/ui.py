"""Airflow and MLflow with their pages on loopback, over the state of ``make run``, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from environment import STATE
from services import Services

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Start both, wait for Ctrl-C, end both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--airflow-port", type=int, default=8080)
    parser.add_argument("--mlflow-port", type=int, default=5000)
    options = parser.parse_args()
    services = Services(STATE, options.airflow_port, options.mlflow_port)
    # Ctrl-C, an ordinary kill and a closed terminal do the same, even where a parent had one ignored.
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        services.start()
        print(f"Airflow  {services.airflow_url}/dags/flight_delays", flush=True)
        print(f"MLflow   {services.mlflow_url}/", flush=True)
        print("Ctrl-C ends both.", flush=True)
        while services.are_running():
            time.sleep(1)
        print("One of the programs has ended; see var/logs.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nEnding ...", flush=True)
        return 0
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        # A second one does not cut the ending short.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        services.end()


if __name__ == "__main__":
    sys.exit(main())
