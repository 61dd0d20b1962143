-- IF NOT EXISTS: a copy of this database that holds its structure without its rows has the table
-- and an empty history of migrations, and the service must start on it.
CREATE TABLE IF NOT EXISTS products (
    product_id        text   PRIMARY KEY,
    name              text   NOT NULL,
    unit              text   NOT NULL,
    stock_quantity    bigint NOT NULL CHECK (stock_quantity >= 0),
    reserved_quantity bigint NOT NULL DEFAULT 0 CHECK (reserved_quantity >= 0)
);

COMMENT ON COLUMN products.unit IS 'what one of it is, for people';
COMMENT ON COLUMN products.stock_quantity IS 'units that can still be reserved';
COMMENT ON COLUMN products.reserved_quantity IS 'units set aside for orders, no longer in stock_quantity';
