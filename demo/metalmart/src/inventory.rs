//! The stock of the shop and the moves of units between what is free and what is reserved.
//!
//! Owns the SQL over `products` and the rule that an order is carried out whole or not at all. A move locks the rows
//! of its products in the order of their ids, so that two moves can wait for each other but never in a circle; then
//! it looks, and only then it writes. Leaves reading requests to `order` and status codes to `http`.

use deadpool_postgres::{Pool, PoolError, Transaction};
use serde::Serialize;
use tokio_postgres::{IsolationLevel, Row};

use crate::order::{Order, ProductId};

/// One product as callers see it. Quantities are in the product's own unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Product {
    pub(crate) product_id: String,
    pub(crate) name: String,
    /// What one of it is: a sheet, a box.
    pub(crate) unit: String,
    /// Units that can still be reserved.
    pub(crate) stock_quantity: i64,
    /// Units set aside, no longer in `stock_quantity`.
    pub(crate) reserved_quantity: i64,
}

/// A product of which fewer units can be reserved than were asked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shortfall {
    pub(crate) product_id: String,
    pub(crate) asked: i64,
    pub(crate) available: i64,
}

/// A product of which fewer units are reserved than were to be released.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Excess {
    pub(crate) product_id: String,
    pub(crate) asked: i64,
    pub(crate) reserved: i64,
}

/// Why the inventory did not do what was asked; but for [`InventoryError::Unconfirmed`], nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InventoryError {
    #[error("no such product")]
    Unknown { product_ids: Vec<String> },
    #[error("not enough stock")]
    StockShort { shortfall: Vec<Shortfall> },
    #[error("more would be released than is reserved")]
    ReservationShort { excess: Vec<Excess> },
    #[error("could not get a connection to the database")]
    Connection(#[source] PoolError),
    #[error("could not {task}")]
    Query {
        task: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("the outcome is unknown; read the inventory before repeating the request")]
    Unconfirmed(#[source] tokio_postgres::Error),
}

/// The inventory in the database; copies share one pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct Inventory {
    pool: Pool,
}

/// Which way units go.
#[derive(Debug, Clone, Copy)]
enum Move {
    Reserve,
    Release,
}

const COLUMNS: &str = "product_id, name, unit, stock_quantity, reserved_quantity";

impl Inventory {
    /// An inventory over the database behind `pool`.
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Asks the database for a sign of life.
    pub(crate) async fn check(&self) -> Result<(), InventoryError> {
        let client = self.pool.get().await.map_err(InventoryError::Connection)?;
        client
            .simple_query("SELECT 1")
            .await
            .map_err(failed_to("ask for a sign of life"))?;
        Ok(())
    }

    /// Every product, in the order of the ids.
    pub(crate) async fn list(&self) -> Result<Vec<Product>, InventoryError> {
        let client = self.pool.get().await.map_err(InventoryError::Connection)?;
        let query = format!("SELECT {COLUMNS} FROM products ORDER BY product_id");
        let rows = client
            .query(&query, &[])
            .await
            .map_err(failed_to("list the products"))?;
        read_products(&rows)
    }

    /// One product.
    pub(crate) async fn find(&self, product_id: &ProductId) -> Result<Product, InventoryError> {
        let client = self.pool.get().await.map_err(InventoryError::Connection)?;
        let query = format!("SELECT {COLUMNS} FROM products WHERE product_id = $1");
        let id = product_id.as_str();
        let row = client
            .query_opt(&query, &[&id])
            .await
            .map_err(failed_to("find the product"))?;
        let row = row.ok_or_else(|| InventoryError::Unknown {
            product_ids: vec![id.to_owned()],
        })?;
        read_product(&row)
    }

    /// Sets all of `order` aside, or nothing, and gives the new state of its products in its order.
    pub(crate) async fn reserve(&self, order: &Order) -> Result<Vec<Product>, InventoryError> {
        self.carry_out(Move::Reserve, order).await
    }

    /// Gives all of `order` back to the stock, or nothing, and gives the new state of its products in its order.
    pub(crate) async fn release(&self, order: &Order) -> Result<Vec<Product>, InventoryError> {
        self.carry_out(Move::Release, order).await
    }

    async fn carry_out(
        &self,
        direction: Move,
        order: &Order,
    ) -> Result<Vec<Product>, InventoryError> {
        let mut client = self.pool.get().await.map_err(InventoryError::Connection)?;
        // Read committed, whatever the database's default: a row that was waited for must be seen as it is by then.
        // Returning early drops the transaction, which rolls it back.
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::ReadCommitted)
            .start()
            .await
            .map_err(failed_to("begin a transaction"))?;
        let locked = lock_products(&transaction, order).await?;
        check_order(direction, order, &locked)?;
        let moved = move_units(&transaction, direction, order).await?;
        transaction
            .commit()
            .await
            .map_err(InventoryError::Unconfirmed)?;
        Ok(moved)
    }
}

/// Locks the products of `order` until the end of the transaction and gives their state; unknown ones are left out.
async fn lock_products(
    transaction: &Transaction<'_>,
    order: &Order,
) -> Result<Vec<Product>, InventoryError> {
    // PostgreSQL locks after it has sorted, and ids never change: everyone locks in the same order.
    let query = format!(
        "SELECT {COLUMNS} FROM products WHERE product_id = ANY ($1) ORDER BY product_id FOR NO KEY UPDATE"
    );
    let ids = order.product_ids();
    let rows = transaction
        .query(&query, &[&ids])
        .await
        .map_err(failed_to("lock the products"))?;
    read_products(&rows)
}

/// Whether `order` can be carried out on `products`, with every product that stands against it.
fn check_order(direction: Move, order: &Order, products: &[Product]) -> Result<(), InventoryError> {
    let mut unknown = Vec::new();
    let mut shortfall = Vec::new();
    let mut excess = Vec::new();
    for line in order.lines() {
        let product_id = line.product_id.as_str().to_owned();
        let asked = line.quantity;
        let Some(product) = products
            .iter()
            .find(|product| product.product_id == product_id)
        else {
            unknown.push(product_id);
            continue;
        };
        let (available, reserved) = (product.stock_quantity, product.reserved_quantity);
        match direction {
            Move::Reserve if asked > available => shortfall.push(Shortfall {
                product_id,
                asked,
                available,
            }),
            Move::Release if asked > reserved => excess.push(Excess {
                product_id,
                asked,
                reserved,
            }),
            Move::Reserve | Move::Release => {}
        }
    }
    if !unknown.is_empty() {
        return Err(InventoryError::Unknown {
            product_ids: unknown,
        });
    }
    if !shortfall.is_empty() {
        return Err(InventoryError::StockShort { shortfall });
    }
    if !excess.is_empty() {
        return Err(InventoryError::ReservationShort { excess });
    }
    Ok(())
}

/// Moves the units of `order`, whose products are locked and suffice.
async fn move_units(
    transaction: &Transaction<'_>,
    direction: Move,
    order: &Order,
) -> Result<Vec<Product>, InventoryError> {
    let query = "UPDATE products AS p
        SET stock_quantity = p.stock_quantity - line.quantity,
            reserved_quantity = p.reserved_quantity + line.quantity
        FROM unnest($1::text[], $2::bigint[]) AS line (id, quantity)
        WHERE p.product_id = line.id
        RETURNING p.product_id, p.name, p.unit, p.stock_quantity, p.reserved_quantity";
    let sign = match direction {
        Move::Reserve => 1,
        Move::Release => -1,
    };
    let ids = order.product_ids();
    let quantities: Vec<i64> = order
        .lines()
        .iter()
        .map(|line| sign * line.quantity)
        .collect();
    let rows = transaction
        .query(query, &[&ids, &quantities])
        .await
        .map_err(failed_to("move the units"))?;
    let mut moved = read_products(&rows)?;
    moved.sort_by_key(|product| ids.iter().position(|id| *id == product.product_id));
    Ok(moved)
}

fn read_products(rows: &[Row]) -> Result<Vec<Product>, InventoryError> {
    rows.iter().map(read_product).collect()
}

fn read_product(row: &Row) -> Result<Product, InventoryError> {
    let read = || {
        Ok(Product {
            product_id: row.try_get("product_id")?,
            name: row.try_get("name")?,
            unit: row.try_get("unit")?,
            stock_quantity: row.try_get("stock_quantity")?,
            reserved_quantity: row.try_get("reserved_quantity")?,
        })
    };
    read().map_err(failed_to("read a product"))
}

fn failed_to(task: &'static str) -> impl FnOnce(tokio_postgres::Error) -> InventoryError {
    move |source| InventoryError::Query { task, source }
}
