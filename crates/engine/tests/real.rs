//! The engine's parts against real PostgreSQL servers: one binary, one module a part.

mod real {
    mod copy;
    mod server;
    mod source;
    mod stage;
}
