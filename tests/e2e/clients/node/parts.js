// Takes its connection from a variable for each part, and says which server it met.
const { Client } = require("pg");
const e = process.env;
const client = new Client({
  host: e.DB_HOST, port: e.DB_PORT, user: e.DB_USER, password: e.DB_PASSWORD, database: e.DB_NAME,
});
(async () => {
  await client.connect();
  await client.query("UPDATE products SET stock_quantity = stock_quantity - 7 WHERE product_id = '1'");
  console.log((await client.query("SHOW cluster_name")).rows[0].cluster_name);
  await client.end();
})();
