//! Connection strings that are led as a whole, whatever params take of them; what is read of a value.

use super::*;

const SPRING: &str = r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "//([^:/]+)"}, PORT
    "user": "U", "password": "P", "database": {"env_var_name": "S", "value_pattern": "/([^/?]+)$"}}}"#;

const APART: [(&str, &str); 3] = [("S", "jdbc:postgresql://db/shop"), ("U", "app"), ("P", "x")];

#[test]
fn a_url_without_a_port_that_params_take_apart_is_led_as_a_whole() {
    let found = located(&SPRING.replace("PORT", ""), &APART).unwrap();
    assert_eq!(
        model::PgUrl::parse(&found).unwrap().address().to_string(),
        "db:5432"
    );
    for port in ["", r#""port": {"env_var_name": "Q", "value": "5432"},"#] {
        let led = rewritten(&SPRING.replace("PORT", port), &APART, None, &[]).unwrap();
        let led: std::collections::BTreeMap<_, _> = led.into_iter().collect();
        assert_eq!(led["S"], "jdbc:postgresql://127.0.0.1:54321/shop", "{port}");
    }
}

#[test]
fn a_connection_string_of_which_a_part_still_leads_elsewhere_is_refused() {
    let json = r#"{"params": {"host": {"env_var_name": "S", "value_pattern": "Host=([^;]+)"}, "port": {"env_var_name": "Q", "value": "5432"},
        "user": "U"}}"#;
    let given = [("S", "Host=db;Username=app"), ("U", "app")];
    let address = Address {
        host: "127.0.0.1".to_owned(),
        port: 54321,
    };
    let none = BTreeMap::new();
    let branch = Destination {
        address: &address,
        database: None,
        query_params: &none,
    };
    let refused = connection(json).rewrite(&environment(&given), &branch);
    let refused = refused.expect_err("the program would go to port 5432");
    assert!(
        matches!(refused, RewriteError::Elsewhere { .. }),
        "{refused}"
    );
    assert_eq!(
        refused.hint().as_deref(),
        Some(r#""url": "S" leads all of it to the branch"#)
    );
    assert_eq!(
        connection(json).check(&environment(&given), &none),
        Err(refused)
    );
}

#[test]
fn what_only_the_source_could_prove_is_not_asked_of_the_branch() {
    let rds = "postgres://u@db/d?sslmode=verify-full&sslrootcert=/rds.pem&application_name=x";
    assert_eq!(
        rewritten(r#"{"url": "U"}"#, &[("U", rds)], None, &[]),
        pairs(&[(
            "U",
            "postgres://u@127.0.0.1:54321/d?sslmode=disable&application_name=x"
        )])
    );
}

#[test]
fn the_end_of_a_line_behind_a_value_is_nobody_s() {
    let found = located(r#"{"url": "U"}"#, &[("U", "postgres://u@db/shop\r\n")]);
    assert_eq!(found.as_deref(), Ok("postgres://u@db/shop"));
    let found = located(r#"{"url": "U"}"#, &[("U", "\n")]);
    assert!(matches!(found, Err(LocateError::Empty { .. })));
}
