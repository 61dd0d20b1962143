<?php
// Answers each request of PHP's own web server with the name in SERVE_AS and the path, and says the path.
echo getenv('SERVE_AS'), ' ', $_SERVER['REQUEST_URI'];
file_put_contents('php://stdout', $_SERVER['REQUEST_URI'] . "\n");
