-- Every kind of object that a copy must keep, each with a row or a value that a careless copy would lose.
COMMENT ON SCHEMA public IS 'what everybody sees';
CREATE SCHEMA sales AUTHORIZATION app;
CREATE SCHEMA "Odd, Name";
CREATE SCHEMA reports AUTHORIZATION "Besitzer Ü";
GRANT USAGE ON SCHEMA sales TO reporter;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA sales GRANT SELECT ON TABLES TO reporter;

CREATE EXTENSION hstore SCHEMA public;
CREATE EXTENSION btree_gist SCHEMA public;

-- Types.
CREATE TYPE sales.mood AS ENUM ('sad', 'ok', 'glad; really', 'naïve');
CREATE DOMAIN sales.positive AS integer DEFAULT 1 CHECK (VALUE > 0);
COMMENT ON DOMAIN sales.positive IS 'above nought';
CREATE TYPE sales.address AS (street text, "Zip Code" varchar(10), moods sales.mood[]);
CREATE TYPE sales.float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION sales.plain FROM "C";

-- Tables.
CREATE TABLE sales.customers (
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 7),
    serial_number serial,
    name text NOT NULL COLLATE sales.plain,
    name_length integer GENERATED ALWAYS AS (length(name)) STORED,
    address sales.address,
    moods sales.mood[] DEFAULT '{ok}',
    amount sales.positive,
    balance numeric(20, 5),
    price money,
    period tstzrange,
    floats sales.float_range,
    attributes jsonb,
    old_attributes json,
    tags hstore,
    picture bytea,
    born date,
    waits interval,
    at timestamptz DEFAULT now(),
    position point,
    reference regclass,
    routines regprocedure[],
    bits bit varying(9),
    host inet,
    document tsvector,
    ratio double precision,
    small real,
    key uuid,
    PRIMARY KEY (id),
    UNIQUE (serial_number) DEFERRABLE INITIALLY DEFERRED,
    EXCLUDE USING gist (period WITH &&, amount WITH =)
);
COMMENT ON TABLE sales.customers IS E'a comment;\nwith ''quotes'', and a line\n\\. of its own';
COMMENT ON COLUMN sales.customers.name IS 'Größe';
ALTER TABLE sales.customers ALTER COLUMN picture SET STORAGE EXTERNAL;
ALTER TABLE sales.customers ALTER COLUMN attributes SET STATISTICS 333;
INSERT INTO sales.customers (name, address, moods, amount, balance, price, period, floats, attributes, old_attributes,
    tags, picture, born, waits, at, position, reference, routines, bits, host, document, ratio, small, key)
VALUES
    (E'tab\there, newline\nhere, back\\slash, \\. and \\N', ROW('Hauptstraße "1"', 'A,(1)', '{sad,"glad; really"}'), '{sad,naïve}', 7,
     12345678901234.56789, 1234.56, '[2024-01-01 00:00+00,2024-02-01 00:00+00)', '[1.5,2.5]', '{"a": [1, null, "\u00e4"], "b": 1e-7}',
     '{"a": 1,  "a": 2}', 'a=>1, "b c"=>NULL', '\x00ff5c2e0a', '0044-03-15 BC', '1 mon -3 days 04:05:06.789', '2024-02-29 12:00:00.123456+02',
     '(1.1,-2.2)', 'sales.customers', '{length(text),lower(text)}', B'10101', '10.1.2.3/16', 'fat:2,4 cat:3A', 0.1::float8 + 0.2, 'Infinity',
     'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
    ('', NULL, NULL, NULL, 'NaN', '-0.01', 'empty', NULL, 'null', NULL, '', '', 'infinity', '-178000000 years', '-infinity', NULL,
     'pg_catalog.pg_class', '{}', '', '::1', '', '-0', 'NaN', NULL);
INSERT INTO sales.customers (name, picture) SELECT 'many ' || n, convert_to(repeat(md5(n::text), 200), 'UTF8') FROM generate_series(1, 300) n;
DELETE FROM sales.customers WHERE serial_number % 3 = 0;
UPDATE sales.customers SET balance = serial_number WHERE serial_number % 5 = 0;
ALTER TABLE sales.customers ADD CONSTRAINT named CHECK (name <> '') NOT VALID;
-- A dropped column leaves a hole.
ALTER TABLE sales.customers ADD COLUMN hole text DEFAULT 'hole';
ALTER TABLE sales.customers DROP COLUMN born;

CREATE TABLE "Odd, Name"."Größe (cm) FROM stdin;" ("a ""b"" c" text, "SELECT" integer);
INSERT INTO "Odd, Name"."Größe (cm) FROM stdin;" VALUES ('ü', 1), ('$$; DROP TABLE x; $$', 2), (NULL, NULL);
CREATE TABLE public.no_key (a integer, b text);
INSERT INTO public.no_key VALUES (1, 'twice'), (1, 'twice'), (NULL, '');
CREATE TABLE public.empty (a integer);
CREATE TABLE public.no_columns ();
INSERT INTO public.no_columns DEFAULT VALUES;
CREATE UNLOGGED TABLE public.unlogged (a integer PRIMARY KEY);
INSERT INTO public.unlogged SELECT generate_series(1, 50);

-- Inheritance.
CREATE TABLE public.parent (a integer PRIMARY KEY, b text);
CREATE TABLE public.child (c integer) INHERITS (public.parent);
INSERT INTO public.parent VALUES (1, 'of the parent');
INSERT INTO public.child VALUES (2, 'of the child', 3);

-- Partitions, on two levels, with a default one.
CREATE TABLE sales.events (at date NOT NULL, kind text NOT NULL, payload text, PRIMARY KEY (at, kind)) PARTITION BY RANGE (at);
CREATE TABLE sales.events_2024 PARTITION OF sales.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE sales.events_2024_a PARTITION OF sales.events_2024 FOR VALUES IN ('a', 'b');
CREATE TABLE sales.events_2024_rest PARTITION OF sales.events_2024 DEFAULT;
CREATE TABLE sales.events_rest PARTITION OF sales.events DEFAULT;
INSERT INTO sales.events SELECT '2023-12-30'::date + n, CASE n % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'b' ELSE 'c' END, 'payload ' || n FROM generate_series(1, 500) n;
CREATE INDEX ON sales.events (payload);

-- Keys that refer to each other.
CREATE TABLE sales.nodes (id integer PRIMARY KEY, next integer NOT NULL);
ALTER TABLE sales.nodes ADD CONSTRAINT circle FOREIGN KEY (next) REFERENCES sales.nodes (id) DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO sales.nodes VALUES (1, 2);
INSERT INTO sales.nodes VALUES (2, 1);
COMMIT;
CREATE TABLE sales.orders (id integer PRIMARY KEY, customer bigint REFERENCES sales.customers ON DELETE CASCADE, node integer);
ALTER TABLE sales.orders ADD FOREIGN KEY (node) REFERENCES sales.nodes (id) ON UPDATE SET NULL NOT VALID;
INSERT INTO sales.orders SELECT row_number() OVER (ORDER BY id), id, 1 FROM sales.customers LIMIT 20;

-- Sequences in mid-range.
CREATE SEQUENCE sales.tickets AS integer START 5 INCREMENT -3 MINVALUE -100 MAXVALUE 5 CYCLE;
SELECT nextval('sales.tickets'), nextval('sales.tickets');
CREATE SEQUENCE public.untouched START 42;
SELECT setval('public.untouched', 77, false);
ALTER SEQUENCE sales.tickets OWNED BY sales.nodes.next;

-- Functions, procedures, aggregates, operators, casts.
CREATE FUNCTION sales.tricky(a integer DEFAULT 3) RETURNS text LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = sales, pg_temp AS $body$
BEGIN
    -- Name: not_a_comment; Type: TABLE; Schema: public; Owner: nobody
    RETURN $inner$COPY public.no_key (a, b) FROM stdin;
1	x
\.
$inner$ || E'\\' || ';' || a;
END;
$body$;
CREATE FUNCTION sales.standard(a integer) RETURNS integer BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a > 0 THEN a ELSE 0 END; END;
CREATE PROCEDURE sales.fill(INOUT n integer) LANGUAGE SQL BEGIN ATOMIC INSERT INTO public.no_key VALUES (n); SELECT n; END;
CREATE FUNCTION sales.touch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN NEW.b := coalesce(NEW.b, ''it''''s''); RETURN NEW; END';
CREATE AGGREGATE sales.product(integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '1');
CREATE FUNCTION sales.near(a integer, b integer) RETURNS boolean LANGUAGE SQL IMMUTABLE AS 'SELECT abs(a - b) < 2';
CREATE OPERATOR sales.=~ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = sales.near, COMMUTATOR = OPERATOR(sales.=~));
CREATE FUNCTION sales.as_text(sales.address) RETURNS text LANGUAGE SQL IMMUTABLE AS 'SELECT $1.street';
CREATE CAST (sales.address AS text) WITH FUNCTION sales.as_text(sales.address);
CREATE TEXT SEARCH CONFIGURATION sales.plain (COPY = pg_catalog.simple);

-- Views, triggers, rules, statistics.
CREATE VIEW reports.by_name WITH (security_barrier) AS SELECT id, name FROM sales.customers WHERE name LIKE 'many%' WITH LOCAL CHECK OPTION;
CREATE RECURSIVE VIEW reports.chain (id, depth) AS SELECT 1, 1 UNION ALL SELECT n.next, depth + 1 FROM sales.nodes n JOIN chain USING (id) WHERE depth < 3;
CREATE MATERIALIZED VIEW reports.counted AS SELECT count(*) AS n, sum(name_length) AS length FROM sales.customers;
CREATE UNIQUE INDEX ON reports.counted (n);
CREATE MATERIALIZED VIEW reports.unfilled AS SELECT * FROM reports.counted WITH NO DATA;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF b ON public.no_key FOR EACH ROW WHEN (NEW.a > 0) EXECUTE FUNCTION sales.touch();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.parent DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sales.touch();
ALTER TABLE public.no_key DISABLE TRIGGER touch;
CREATE RULE log AS ON DELETE TO public.empty DO ALSO (SELECT 1; INSERT INTO public.no_key VALUES (OLD.a, ';'));
CREATE STATISTICS sales.related (dependencies, mcv) ON kind, at FROM sales.events;
CREATE INDEX "Index; Ü" ON sales.customers USING gin (attributes jsonb_path_ops) WHERE amount IS NOT NULL;
CREATE INDEX ON sales.customers (lower(name), ((address).street) DESC NULLS LAST) INCLUDE (balance) WITH (fillfactor = 70);
ALTER TABLE sales.customers CLUSTER ON customers_pkey;
ALTER TABLE public.no_key REPLICA IDENTITY FULL;
CREATE FUNCTION public.noticed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE NOTICE ''%'', tg_tag; END';
CREATE EVENT TRIGGER noticed ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.noticed();

-- Row security, publications, rights, owners.
ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE sales.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON sales.orders AS RESTRICTIVE FOR SELECT TO reporter, PUBLIC USING (customer > 1000);
CREATE PUBLICATION everything FOR TABLE sales.customers (id, name), public.no_key WHERE (a > 0) WITH (publish = 'insert, update');
CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA "Odd, Name";
GRANT SELECT (name), UPDATE (amount) ON sales.customers TO reporter WITH GRANT OPTION;
GRANT ALL ON public.no_key TO PUBLIC;
REVOKE DELETE ON public.no_key FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sales.tricky TO analyst;
REVOKE EXECUTE ON FUNCTION sales.standard FROM PUBLIC;
GRANT USAGE ON SEQUENCE sales.tickets TO analyst;
GRANT USAGE ON TYPE sales.mood TO analyst;
ALTER TABLE sales.orders OWNER TO app;
ALTER TABLE sales.customers OWNER TO "Besitzer Ü";
ALTER VIEW reports.by_name OWNER TO analyst;
ALTER FUNCTION sales.tricky OWNER TO app;
SET ROLE app;
GRANT SELECT ON sales.orders TO reporter WITH GRANT OPTION;
RESET ROLE;
SET ROLE reporter;
GRANT SELECT ON sales.orders TO passwordless;
RESET ROLE;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO reporter;

-- Large objects: one of several pages, one empty, each with rights and a comment.
SELECT lo_from_bytea(4711, convert_to(repeat('large; object ', 20000), 'UTF8'));
SELECT lo_create(4712);
ALTER LARGE OBJECT 4711 OWNER TO app;
GRANT SELECT ON LARGE OBJECT 4711 TO reporter, copier;
GRANT SELECT ON LARGE OBJECT 4712 TO copier;
COMMENT ON LARGE OBJECT 4711 IS 'the large one';
