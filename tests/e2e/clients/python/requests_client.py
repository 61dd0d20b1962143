"""Fetches the URL in its argument with requests, and says on stderr which address its host has."""

import socket
import sys
from urllib.parse import urlsplit

import requests

host = urlsplit(sys.argv[1]).hostname
print(host, "is", socket.gethostbyname(host), file=sys.stderr)
answer = requests.get(sys.argv[1], timeout=60)
answer.raise_for_status()
print(answer.text)
