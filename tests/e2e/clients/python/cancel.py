"""Cancels a query that would not end, by a connection of its own as the protocol has it, and says so."""

import os
import threading

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=60) as connection:
    connection.execute("SET statement_timeout = '60s'")
    started = threading.Event()

    def cancel():
        started.wait()
        # Until the query runs a cancel does nothing: again and again.
        while not done.is_set():
            connection.cancel_safe(timeout=30)
            done.wait(0.05)

    done = threading.Event()
    canceller = threading.Thread(target=cancel)
    canceller.start()
    try:
        started.set()
        connection.execute("SELECT pg_sleep(1000)")
    except psycopg.errors.QueryCanceled:
        print("cancelled")
    finally:
        done.set()
        canceller.join()
