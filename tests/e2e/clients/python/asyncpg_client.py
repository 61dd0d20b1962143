"""The same service with asyncpg, which speaks the protocol itself and never waits; `direct` begins by TLS at once."""

import asyncio
import json
import os
import socket
import ssl
import sys
from urllib.parse import urlsplit

import asyncpg


async def main():
    options = {}
    if sys.argv[1:] == ["direct"]:
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        options = {"ssl": trusting, "direct_tls": True}
    host = urlsplit(os.environ["DATABASE_URL"]).hostname
    found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
    print(host, "is", found[0][4][0], file=sys.stderr)
    connection = await asyncpg.connect(os.environ["DATABASE_URL"], timeout=60, **options)
    await connection.execute(
        "UPDATE products SET stock_quantity = stock_quantity - $1 WHERE product_id = $2", 7, "1"
    )
    query = "SELECT stock_quantity, current_setting('cluster_name') AS name FROM products WHERE product_id = '1'"
    row = await connection.fetchrow(query)
    await connection.close()
    print(json.dumps({"stock": row["stock_quantity"], "cluster_name": row["name"]}))


asyncio.run(main())
