"""A Python service in small: connects by DATABASE_URL with psycopg, changes a row, says what it then sees,
and where; on stderr, which address its host has."""

import json
import os
import sys

import psycopg

with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=60) as connection:
    connection.execute(
        "UPDATE products SET stock_quantity = stock_quantity - %s WHERE product_id = %s", (7, "1")
    )
    info = connection.info
    print(info.host, "is", info.hostaddr, file=sys.stderr)
    query = "SELECT stock_quantity, current_setting('cluster_name') FROM products WHERE product_id = %s"
    stock, cluster_name = connection.execute(query, ("1",)).fetchone()
print(json.dumps({"stock": stock, "cluster_name": cluster_name}))
