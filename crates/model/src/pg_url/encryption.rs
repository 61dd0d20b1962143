//! What a connection string demands of TLS, and the same string for a branch, whose server is on this machine and proves nothing.
//!
//! Owns the words of libpq and of drivers for it. Leaves speaking TLS to others. Sources: PostgreSQL documentation, sections
//! 34.1.2 and 34.19; for `ssl` JDBC's, node-postgres's and asyncpg's documentation.

use super::PgUrl;

/// What a connection string demands of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsDemand {
    /// That it is there.
    Encryption,
    /// That whoever answers is known.
    Verification {
        /// The parameter that says so.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

/// Values of `sslmode` with which a client wants to know who answers.
const VERIFYING_MODES: [&str; 2] = ["verify-ca", "verify-full"];

/// What goes with a proof, and with TLS at once, which `sslmode=disable` must not stand beside.
const OF_PROOFS: [&str; 5] = [
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "channel_binding",
];

/// Whether a client with this `sslmode` wants to know who answers.
pub fn asks_for_proof(sslmode: &str) -> bool {
    VERIFYING_MODES.contains(&sslmode)
}

impl PgUrl {
    /// What, if anything, whoever connects by this string demands of TLS.
    pub fn tls_demand(&self) -> Option<TlsDemand> {
        let given = |key: &'static str| Some((key, self.param(key).filter(|it| !it.is_empty())?));
        let mode = given("sslmode");
        // `no-verify` is node-postgres's word for what libpq calls require.
        let requires = mode
            .as_ref()
            .is_some_and(|(_, mode)| ["require", "no-verify"].contains(&mode.as_str()));
        // Whoever has both goes by sslmode, as libpq and JDBC do.
        let ssl = given("ssl").filter(|_| mode.is_none());
        let roots = given("sslrootcert");
        let verifying = [
            mode.clone().filter(|(_, mode)| asks_for_proof(mode)),
            // With a root certificate libpq verifies by it; `system` alone means verify-full.
            roots.filter(|(_, roots)| requires || (mode.is_none() && roots == "system")),
            // JDBC's and node-postgres's `true` verifies.
            ssl.clone()
                .filter(|(_, ssl)| ["true", "1"].contains(&ssl.as_str()) || asks_for_proof(ssl)),
            given("channel_binding").filter(|(_, binding)| binding == "require"),
        ];
        if let Some((key, value)) = verifying.into_iter().flatten().next() {
            return Some(TlsDemand::Verification { key, value });
        }
        let asks = requires
            || ssl.is_some_and(|(_, ssl)| ssl == "require")
            || given("sslnegotiation").is_some_and(|(_, how)| how == "direct");
        asks.then_some(TlsDemand::Encryption)
    }

    /// The same string where nobody can prove who he is: a demand for that is none for encryption either, since drivers differ
    /// in what they then believe. Every other string is left as it is.
    #[must_use]
    pub fn without_proofs(&self) -> Self {
        let Some(TlsDemand::Verification { key, value }) = self.tls_demand() else {
            return self.clone();
        };
        if key == "channel_binding" {
            return self.without_param(key);
        }
        let mut met = self.clone();
        for name in OF_PROOFS {
            met = met.without_param(name);
        }
        match (key, value.as_str()) {
            // JDBC's and node-postgres's: without it they take what is there.
            ("ssl", "true" | "1") => met.without_param(key),
            ("ssl", _) => met.with_param(key, "disable"),
            _ => met.without_param("ssl").with_param("sslmode", "disable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PgUrl {
        PgUrl::parse(text).unwrap()
    }

    #[test]
    fn demands_for_tls_are_seen_in_every_dialect() {
        let verification = |key, value: &str| {
            let value = value.to_owned();
            Some(TlsDemand::Verification { key, value })
        };
        let encryption = || Some(TlsDemand::Encryption);
        for (text, expected) in [
            ("postgres://u@h/d", None),
            ("postgres://u@h/d?sslmode=prefer", None),
            ("postgres://u@h/d?sslmode=require", encryption()),
            (
                "postgres://u@h/d?sslmode=require&sslnegotiation=direct",
                encryption(),
            ),
            ("postgres://u@h/d?ssl=require", encryption()),
            ("postgres://u@h/d?sslmode=no-verify", encryption()),
            // Heroku's for JDBC.
            (
                "jdbc:postgresql://h/d?ssl=true&sslmode=require",
                encryption(),
            ),
            ("postgres://u@h/d?ssl=1", verification("ssl", "1")),
            (
                "postgres://u@h/d?sslmode=require&sslrootcert=system",
                verification("sslrootcert", "system"),
            ),
            (
                "postgres://u@h/d?sslrootcert=system",
                verification("sslrootcert", "system"),
            ),
            (
                "postgres://u@h/d?ssl=verify-full",
                verification("ssl", "verify-full"),
            ),
            (
                "jdbc:postgresql://h/d?user=u&ssl=true",
                verification("ssl", "true"),
            ),
            (
                "postgres://u@h/d?channel_binding=require",
                verification("channel_binding", "require"),
            ),
            ("Host=h;Username=u;SSL Mode=Require", encryption()),
            (
                "Host=h;Username=u;SSL Mode=VerifyFull",
                verification("sslmode", "verify-full"),
            ),
        ] {
            assert_eq!(url(text).tls_demand(), expected, "{text}");
        }
    }

    #[test]
    fn a_string_without_proofs_is_taken_by_each_driver_and_else_stays_as_it_is() {
        for (given, met) in [
            ("postgres://u@h/d?a=b", "postgres://u@h/d?a=b"),
            (
                "postgres://u@h/d?sslmode=require&a=b",
                "postgres://u@h/d?sslmode=require&a=b",
            ),
            // As RDS, Neon and Heroku have it.
            (
                "postgres://u@h/d?a=b&sslmode=verify-full&sslrootcert=%2Fca.pem",
                "postgres://u@h/d?a=b&sslmode=disable",
            ),
            (
                "postgres://u@h/d?sslmode=require&channel_binding=require",
                "postgres://u@h/d?sslmode=require",
            ),
            (
                "postgres://u@h/d?sslmode=require&sslrootcert=/ca.pem&sslcert=c&sslkey=k",
                "postgres://u@h/d?sslmode=disable",
            ),
            (
                "postgres://u@h/d?sslrootcert=system",
                "postgres://u@h/d?sslmode=disable",
            ),
            ("jdbc:postgresql://h/d?ssl=true", "jdbc:postgresql://h/d"),
            (
                "postgresql+asyncpg://u@h/d?ssl=verify-ca",
                "postgresql+asyncpg://u@h/d?ssl=disable",
            ),
            (
                "host=h user=u sslmode=verify-ca sslrootcert='/a b'",
                "host=h user=u sslmode=disable",
            ),
            (
                "Host=h;SSL Mode=VerifyFull;Root Certificate=/ca.pem;Username=u",
                "Host=h;SSL Mode=Disable;Username=u",
            ),
        ] {
            let met_url = url(given).without_proofs();
            assert_eq!(met_url.reveal(), met, "{given}");
            let demand = met_url.tls_demand();
            assert!(
                !matches!(demand, Some(TlsDemand::Verification { .. })),
                "{given}"
            );
        }
    }
}
