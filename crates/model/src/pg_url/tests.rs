//! Connection strings as users have them.

use super::*;

fn url(text: &str) -> PgUrl {
    PgUrl::parse(text).unwrap()
}

fn branch() -> Address {
    Address {
        host: "127.0.0.1".to_owned(),
        port: 40001,
    }
}

#[test]
fn only_the_address_changes() {
    for (text, rewritten) in [
        (
            "postgres://u:p%40s@db:5432/inventory",
            "postgres://u:p%40s@127.0.0.1:40001/inventory",
        ),
        (
            "postgresql://u@db/inv?sslmode=disable&x=1",
            "postgresql://u@127.0.0.1:40001/inv?sslmode=disable&x=1",
        ),
        (
            "postgresql+asyncpg://u:p@[::1]:5432/d",
            "postgresql+asyncpg://u:p@127.0.0.1:40001/d",
        ),
        (
            "jdbc:postgresql://db:5432/d?user=u&password=p",
            "jdbc:postgresql://127.0.0.1:40001/d?user=u&password=p",
        ),
        (
            "postgres://u:p@a:1,b:2/d",
            "postgres://u:p@127.0.0.1:40001/d",
        ),
        (
            "postgres:///d?host=/run/pg&port=5433&user=u",
            "postgres://127.0.0.1:40001/d?user=u",
        ),
        (
            "host=db user=u password='a \\' b' dbname=d",
            "host=127.0.0.1 user=u password='a \\' b' dbname=d port=40001",
        ),
    ] {
        assert_eq!(url(text).with_address(&branch()).reveal(), rewritten);
    }
}

#[test]
fn parts_are_decoded() {
    let parsed = url("postgres://us%20er:p%2Fw@db.example:6543/da%74a?options=-c%20x%3D1");
    assert_eq!(parsed.user().as_deref(), Some("us er"));
    assert_eq!(parsed.password().unwrap().reveal(), "p/w");
    assert_eq!(parsed.database().as_deref(), Some("data"));
    assert_eq!(
        parsed.address(),
        Address {
            host: "db.example".to_owned(),
            port: 6543
        }
    );
    assert_eq!(
        parsed.options(),
        vec![("options".to_owned(), "-c x=1".to_owned())]
    );
    assert_eq!(url("postgres://u@h").database().as_deref(), Some("u"));
    assert_eq!(url("postgres://u@h").address().port, 5432);
    assert_eq!(url("postgres://u@%2Frun%2Fpg/d").address().host, "/run/pg");
    assert_eq!(
        url("jdbc:postgresql://h/d?user=a&password=b")
            .password()
            .unwrap()
            .reveal(),
        "b"
    );
}

#[test]
fn several_hosts_pair_with_ports() {
    let hosts = |text: &str| {
        url(text)
            .addresses()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        hosts("postgres://u@a:1,b,[::1]:3/d"),
        ["a:1", "b:5432", "[::1]:3"]
    );
    assert_eq!(hosts("host=a,b port=7"), ["a:7", "b:7"]);
    assert_eq!(hosts("host=a,b port=7,8"), ["a:7", "b:8"]);
}

#[test]
fn parameters_replace_the_authority_as_libpq_has_it() {
    let hosts = |text: &str| {
        let addresses = url(text).addresses();
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        addresses.join(" ")
    };
    for (text, expected) in [
        ("postgres://u@db:5432/d?port=6432", "db:6432"),
        ("postgres://u@db:6432/d?hostaddr=10.0.0.1", "db:6432"),
        (
            "postgres://u@/d?hostaddr=10.0.0.1&port=6432",
            "10.0.0.1:6432",
        ),
        ("postgres://u@db:6432/d?host=other", "other:6432"),
        ("postgres://u@a:1,b:2/d?port=3", "a:3 b:3"),
        ("postgres://u@a:1,b:2/d?port=3,4", "a:3 b:4"),
        ("postgres://u@db/d?port=1&port=2", "db:2"),
        ("host=db port=6432 hostaddr=10.0.0.1", "db:6432"),
    ] {
        assert_eq!(hosts(text), expected, "{text}");
        let led = url(text).with_address(&branch());
        assert_eq!(led.addresses(), [branch()], "{text}");
    }
    let twice = url("postgres://u@db/d?sslmode=a&sslmode=b").with_param("sslmode", "c");
    assert_eq!(twice.param("sslmode").as_deref(), Some("c"));
}

#[test]
fn what_a_text_leaves_to_its_client_is_told() {
    for (text, host, port) in [
        ("postgres://u@db:5433/d", true, true),
        ("postgres://u@db/d", true, false),
        ("postgres:///d", false, false),
        ("postgres://:5433/d", false, true),
        ("postgres:///d?host=/run/pg", true, false),
        ("postgres:///d?host=", false, false),
        ("postgres://a,b/d", true, true),
        ("dbname=d", false, false),
        ("host=db port=1", true, true),
        ("hostaddr=10.0.0.1", true, false),
    ] {
        let parsed = url(text);
        assert_eq!(
            (parsed.names_host(), parsed.names_port()),
            (host, port),
            "{text}"
        );
    }
}

#[test]
fn a_password_may_hold_what_ends_other_parts() {
    for (text, user, password, address) in [
        (
            "postgres://app:hunter2?x@db/d",
            "app",
            "hunter2?x",
            "db:5432",
        ),
        (
            "postgres://app:a?b=c@db:1/d?sslmode=x",
            "app",
            "a?b=c",
            "db:1",
        ),
        ("postgres://app:a/b@db:1/d", "app", "a/b", "db:1"),
        ("postgres://app:a@b@db:1/d", "app", "a@b", "db:1"),
        ("postgres://app:a@db?options=x@y", "app", "a", "db:5432"),
        (
            "jdbc:postgresql://db?user=app@x&password=a",
            "app@x",
            "a",
            "db:5432",
        ),
        (
            "jdbc:postgresql://db/d?user=app@x&password=a",
            "app@x",
            "a",
            "db:5432",
        ),
    ] {
        let parsed = url(text);
        assert_eq!(parsed.user().as_deref(), Some(user), "{text}");
        assert_eq!(parsed.password().unwrap().reveal(), password, "{text}");
        assert_eq!(parsed.address().to_string(), address, "{text}");
        assert_eq!(parsed.reveal(), text);
    }
}

#[test]
fn the_form_of_dot_net_is_read_and_led_elsewhere_with_every_other_byte_kept() {
    let branch = Address {
        host: "127.0.0.1".to_owned(),
        port: 40001,
    };
    for (text, source, led) in [
        (
            "Host=db;Port=5433;Username=app;Password=hunter2;Database=inv",
            "db:5433",
            "Host=127.0.0.1;Port=40001;Username=app;Password=hunter2;Database=inv",
        ),
        // As most have it: without a port.
        (
            "Host=db;Username=app;Password=hunter2;Database=inv;",
            "db:5432",
            "Host=127.0.0.1;Username=app;Password=hunter2;Database=inv;Port=40001;",
        ),
        (
            "User ID=app;Password=hunter2;Server=db; Port=5433 ;Database=inv;Pooling=true",
            "db:5433",
            "User ID=app;Password=hunter2;Server=127.0.0.1; Port=40001;Database=inv;Pooling=true",
        ),
        (
            "host=db:5433,other;uid=app;pwd='hunter2';db=inv",
            "db:5433",
            "host=127.0.0.1;uid=app;pwd='hunter2';db=inv;Port=40001",
        ),
    ] {
        let parsed = url(text);
        assert_eq!(parsed.reveal(), text);
        assert_eq!(parsed.address().to_string(), source, "{text}");
        assert_eq!(parsed.user().as_deref(), Some("app"), "{text}");
        assert_eq!(parsed.password().unwrap().reveal(), "hunter2", "{text}");
        assert_eq!(parsed.database().as_deref(), Some("inv"), "{text}");
        assert!(!parsed.redacted().contains("hunter2"), "{text}");
        assert_eq!(parsed.with_address(&branch).reveal(), led);
    }
    let quoted = url(r#"Host=db;Username=u;Password="a;b=""c""";SSL Mode=VerifyFull"#);
    assert_eq!(quoted.password().unwrap().reveal(), "a;b=\"c\"");
    assert_eq!(quoted.param("sslmode").as_deref(), Some("verify-full"));
    let other = quoted.with_param("sslmode", "require").with_database("a;b");
    assert_eq!(
        other.reveal(),
        r#"Host=db;Username=u;Password="a;b=""c""";SSL Mode=Require;Database="a;b""#
    );
    assert_eq!(url(&other.reveal()).database().as_deref(), Some("a;b"));
    assert_eq!(
        PgUrl::parse("Host=db;Password='a"),
        Err(PgUrlError::Quote("Password".to_owned()))
    );
    assert_eq!(
        PgUrl::parse("Host=db;Port=x;Username=u"),
        Err(PgUrlError::Port)
    );
    assert_eq!(PgUrl::parse("Host=db"), Err(PgUrlError::Form));
    // What drivers have beyond libpq's own.
    let gorm = "host=db user=u password=a;b=c dbname=d pool_max_conns=4 TimeZone=UTC";
    assert_eq!(url(gorm).password().unwrap().reveal(), "a;b=c");
    assert_eq!(
        url("password=a;b=c host=db").password().unwrap().reveal(),
        "a;b=c"
    );
}

#[test]
fn the_schemes_of_frameworks_are_postgresql_s() {
    for scheme in [
        "psql",
        "pgsql",
        "postgis",
        "ecto",
        "asyncpg",
        "POSTGRES",
        "postgresql+psycopg",
        "r2dbc:postgresql",
        "r2dbc:pool:postgresql",
        "jdbc:aws-wrapper:postgresql",
        "jdbc:otel:postgresql",
    ] {
        let text = format!("{scheme}://db:5433/inv?user=u");
        let parsed = url(&text);
        assert_eq!(parsed.reveal(), text);
        assert_eq!(parsed.address().to_string(), "db:5433");
    }
    for scheme in ["mysql", "http", "jdbc:mysql", "postgresqlx"] {
        let text = format!("{scheme}://db:5433/inv?user=u");
        assert_eq!(PgUrl::parse(&text), Err(PgUrlError::Form), "{scheme}");
    }
}

#[test]
fn sqlalchemy_s_hosts_have_their_ports_behind_them() {
    let text = "postgresql+psycopg2://u:p@/d?host=a:5433&host=b:5434&application_name=x";
    let parsed = url(text);
    let addresses: Vec<_> = parsed.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["a:5433", "b:5434"]);
    let branch = Address {
        host: "127.0.0.1".to_owned(),
        port: 40001,
    };
    assert_eq!(
        parsed.with_address(&branch).reveal(),
        "postgresql+psycopg2://u:p@127.0.0.1:40001/d?application_name=x"
    );
    // libpq knows no such thing: its last host counts, whatever it is called.
    assert_eq!(url("postgresql://u@/d?host=a&host=b").address().host, "b");
}

#[test]
fn no_password_is_shown() {
    for text in [
        "postgres://u:hunter2@h/d",
        "postgres://h/d?user=u&password=hunter2",
        "host=h user=u password=hunter2",
        "host=h user=u sslpassword=hunter2",
        "postgres://u:hunter2@h/d?sslpassword=hunter2",
    ] {
        assert!(!url(text).redacted().contains("hunter2"), "{text}");
        assert!(!format!("{:?}", url(text)).contains("hunter2"), "{text}");
    }
}

#[test]
fn broken_texts_are_refused_without_being_shown() {
    for bad in [
        "",
        "mysql://u:hunter2@h/d",
        "postgres://u:hunter2@h:0/d",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2/x?y@h/d",
        "postgres://u:hunter2%zz@h/d",
        "postgres://u:hunter2@[::1/d",
        "host=h password='hunter2",
        "hunter2",
    ] {
        let error = PgUrl::parse(bad).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{bad}");
    }
}

#[test]
fn parts_make_a_url_that_parses_back() {
    let made = PgUrl::from_parts(
        &branch(),
        "Ünder score",
        Some(&Secret::new("p@:/? ")),
        "my db",
    );
    let back = url(&made.reveal());
    assert_eq!(back.user().as_deref(), Some("Ünder score"));
    assert_eq!(back.password().unwrap().reveal(), "p@:/? ");
    assert_eq!(back.database().as_deref(), Some("my db"));
    let other = back.with_database("ö").with_param("sslmode", "disable");
    assert_eq!(other.database().as_deref(), Some("ö"));
    assert_eq!(
        url(&other.reveal()).param("sslmode").as_deref(),
        Some("disable")
    );
}

#[test]
fn an_address_is_read_as_it_is_written() {
    for text in [
        "db:5433",
        "10.0.0.1:6432",
        "[::1]:5432",
        "/run/postgresql:5432",
    ] {
        let read: Address = text.parse().unwrap();
        assert_eq!(read.to_string(), text);
    }
    for text in [
        "db",
        "db:port",
        "db:65536",
        ":5432",
        "::1:5432",
        "[db]:5432",
        "[]:5432",
    ] {
        let wrong = text.parse::<Address>();
        assert_eq!(wrong, Err(AddressError(text.to_owned())));
    }
}
