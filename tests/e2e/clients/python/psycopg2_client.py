"""The same service with psycopg2, which waits in the C library."""

import json
import os
import socket
import sys
from urllib.parse import urlsplit

import psycopg2

host = urlsplit(os.environ["DATABASE_URL"]).hostname
print(host, "is", socket.gethostbyname(host), file=sys.stderr)
connection = psycopg2.connect(os.environ["DATABASE_URL"], connect_timeout=60)
with connection, connection.cursor() as cursor:
    cursor.execute(
        "UPDATE products SET stock_quantity = stock_quantity - %s WHERE product_id = %s", (7, "1")
    )
    cursor.execute("SELECT stock_quantity, current_setting('cluster_name') FROM products WHERE product_id = '1'")
    stock, cluster_name = cursor.fetchone()
connection.close()
print(json.dumps({"stock": stock, "cluster_name": cluster_name}))
