-- The cluster around the database: roles of every sort, and the database itself with an owner, settings and rights.
CREATE ROLE app LOGIN PASSWORD 'app secret' CREATEDB;
CREATE ROLE "Besitzer Ü" NOLOGIN;
CREATE ROLE reporter NOLOGIN NOINHERIT;
CREATE ROLE analyst LOGIN PASSWORD 'analyst secret' CONNECTION LIMIT 7 VALID UNTIL '2031-02-03 04:05:06+00' IN ROLE reporter;
CREATE ROLE passwordless LOGIN;
CREATE ROLE rds_superuser;
GRANT reporter TO app WITH ADMIN OPTION;
GRANT "Besitzer Ü" TO app;
GRANT pg_monitor TO analyst;
COMMENT ON ROLE reporter IS 'reads; writes nothing''s';
CREATE DATABASE shop OWNER "Besitzer Ü";
COMMENT ON DATABASE shop IS 'the shop';
ALTER DATABASE shop SET work_mem = '5MB';
ALTER DATABASE shop SET search_path = "$user", sales, public;
ALTER ROLE analyst SET statement_timeout = '90s';
ALTER ROLE analyst IN DATABASE shop SET search_path = reports, "Odd, Name", public;
ALTER ROLE app SET "app.tenant" = 'a''b\c';
REVOKE TEMPORARY ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO reporter WITH GRANT OPTION;
GRANT SET ON PARAMETER session_replication_role TO app;
GRANT SET, ALTER SYSTEM ON PARAMETER log_min_duration_statement TO reporter WITH GRANT OPTION;
-- Who copies: reads everything, is nobody's superuser.
CREATE ROLE copier LOGIN PASSWORD 'copier secret' BYPASSRLS;
GRANT pg_read_all_data TO copier;
