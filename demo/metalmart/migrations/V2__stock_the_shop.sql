INSERT INTO products (product_id, name, unit, stock_quantity) VALUES
    ('1', 'Steel sheet 2 mm, 1000 x 2000 mm',    'sheet',  100),
    ('2', 'Copper pipe 22 mm, 3 m',              'pipe',   250),
    ('3', 'Aluminium angle 40 x 40 mm, 6 m',     'length',  80),
    ('4', 'Stainless hex bolt M8 x 40 mm',       'box',    500),
    ('5', 'Brass rod 12 mm, 1 m',                'rod',    120),
    ('6', 'Welding wire 0.8 mm, 15 kg',          'spool',   12)
ON CONFLICT (product_id) DO NOTHING;
