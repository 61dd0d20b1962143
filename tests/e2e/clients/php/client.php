<?php
// Told a URL, fetches it with PHP's own streams; told nothing, connects by DATABASE_URL with pgsql, changes a row, and says
// what it then sees, and where. Which address the host has is said on stderr.
$url = $argv[1] ?? getenv('DATABASE_URL');
$parts = parse_url($url);
fwrite(STDERR, "{$parts['host']} is " . gethostbyname($parts['host']) . "\n");
if (isset($argv[1])) {
    $page = file_get_contents($url);
    if ($page === false) {
        exit(1);
    }
    echo $page;
    exit;
}
$connection = pg_connect($url) or exit(1);
$taken = pg_query_params(
    $connection,
    'UPDATE products SET stock_quantity = stock_quantity - $1 WHERE product_id = $2',
    [7, '1'],
) or exit(1);
$asked = "SELECT stock_quantity AS stock, current_setting('cluster_name') AS cluster_name FROM products WHERE product_id = '1'";
$row = pg_fetch_assoc(pg_query($connection, $asked));
echo json_encode(['stock' => (int) $row['stock'], 'cluster_name' => $row['cluster_name']]), "\n";
