// A Node service in small: connects by DATABASE_URL with pg, changes a row, and says what it then sees, and where; on
// stderr, which address its host has.
'use strict';
const dns = require('dns');
const { Client } = require('pg');

async function run() {
  const client = new Client({ connectionString: process.env.DATABASE_URL, connectionTimeoutMillis: 60_000 });
  console.error(`${client.host} is ${(await dns.promises.lookup(client.host)).address}`);
  await client.connect();
  try {
    await client.query('UPDATE products SET stock_quantity = stock_quantity - $1 WHERE product_id = $2', [7, '1']);
    const found = await client.query(
      "SELECT stock_quantity, current_setting('cluster_name') AS cluster_name FROM products WHERE product_id = $1",
      ['1'],
    );
    const { stock_quantity, cluster_name } = found.rows[0];
    console.log(JSON.stringify({ stock: Number(stock_quantity), cluster_name }));
  } finally {
    await client.end();
  }
}

run().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
