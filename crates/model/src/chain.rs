//! An error in one line, for logs and for answers of which only text crosses a socket.

use std::error::Error;

/// An error's text with those of its causes, apart by colons. A cause whose text is in what is there already adds nothing.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let own = error.to_string();
        if !text.contains(&own) {
            text.push_str(": ");
            text.push_str(&own);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Failure {
        text: &'static str,
        #[source]
        source: Option<Box<Self>>,
    }

    fn failure(texts: &[&'static str]) -> Failure {
        let (text, causes) = texts.split_first().expect("a failure has a text");
        let source = (!causes.is_empty()).then(|| Box::new(failure(causes)));
        Failure { text, source }
    }

    #[test]
    fn every_cause_is_told_once_in_its_order() {
        assert_eq!(chain(&failure(&["cannot copy"])), "cannot copy");
        let causes = ["cannot copy", "cannot read a.rs", "gone", "a.rs"];
        assert_eq!(
            chain(&failure(&causes)),
            "cannot copy: cannot read a.rs: gone"
        );
    }
}
