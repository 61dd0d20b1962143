//! What a caller asks to reserve or release, read from a request's body with every reason against it at once.
//!
//! Owns the shape `{"items": [{"productId": "1", "quantity": 50}]}` and its limits. Whether the products exist and
//! the stock suffices is for `inventory`.

use serde_json::{Map, Value};

/// The longest product id in bytes: ids are short codes, and they end up in index entries and log lines.
const PRODUCT_ID_BYTES_MAX: usize = 64;

/// The most units of one product in one item. With [`ITEMS_MAX`] it keeps every sum far from the end of an `i64`.
const QUANTITY_MAX: i64 = 1_000_000_000;

/// The most items in one request: each holds a row lock until the end of the transaction.
const ITEMS_MAX: usize = 100;

/// A text that may be a product's id: 1 to 64 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProductId(String);

impl ProductId {
    /// Takes `text` as an id.
    ///
    /// # Errors
    /// What is wrong with it, to be read after a name: "... must not be empty".
    pub(crate) fn new(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        if text.len() > PRODUCT_ID_BYTES_MAX {
            return Err(format!(
                "must not be longer than {PRODUCT_ID_BYTES_MAX} bytes"
            ));
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".to_owned());
        }
        Ok(Self(text))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Units asked of one product; `quantity` is at least 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) product_id: ProductId,
    pub(crate) quantity: i64,
}

/// At least one line, each product in one line only, in the order of first mention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order(Vec<Line>);

/// Every reason why a body is not an order; never empty.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request is not valid")]
pub(crate) struct InvalidOrder {
    pub(crate) reasons: Vec<String>,
}

impl Order {
    /// Reads a request's body, whatever content type it claims: `curl -d` does not say JSON.
    ///
    /// Ids and quantities may be strings or numbers, `product_id` may stand for `productId`, unknown keys are
    /// ignored, and a product that is asked for twice is asked for once with the sum.
    ///
    /// # Errors
    /// [`InvalidOrder`] with all the reasons.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, InvalidOrder> {
        let one = |reason: String| InvalidOrder {
            reasons: vec![reason],
        };
        let document: Value = serde_json::from_slice(body)
            .map_err(|error| one(format!("the body is not JSON: {error}")))?;
        let Value::Object(document) = document else {
            return Err(one(format!(
                "the body must be an object with \"items\", not {}",
                kind(&document)
            )));
        };
        let items = match document.get("items") {
            None => return Err(one("items is missing".to_owned())),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(one(format!("items must be an array, not {}", kind(other)))),
        };
        if items.is_empty() {
            return Err(one("items must not be empty".to_owned()));
        }
        if items.len() > ITEMS_MAX {
            return Err(one(format!(
                "items must not be more than {ITEMS_MAX}, not {}",
                items.len()
            )));
        }
        let mut reasons = Vec::new();
        let mut order = Self(Vec::with_capacity(items.len()));
        for (index, item) in items.iter().enumerate() {
            if let Some(line) = read_line(index, item, &mut reasons) {
                order.add(line);
            }
        }
        if reasons.is_empty() {
            Ok(order)
        } else {
            Err(InvalidOrder { reasons })
        }
    }

    /// The lines in the order of first mention.
    pub(crate) fn lines(&self) -> &[Line] {
        &self.0
    }

    /// The ids of the lines, in the same order.
    pub(crate) fn product_ids(&self) -> Vec<&str> {
        self.0.iter().map(|line| line.product_id.as_str()).collect()
    }

    fn add(&mut self, line: Line) {
        match self
            .0
            .iter_mut()
            .find(|known| known.product_id == line.product_id)
        {
            Some(known) => known.quantity += line.quantity,
            None => self.0.push(line),
        }
    }
}

/// Reads one item; what is wrong with it is added to `reasons`.
fn read_line(index: usize, item: &Value, reasons: &mut Vec<String>) -> Option<Line> {
    let Value::Object(item) = item else {
        reasons.push(format!(
            "items[{index}] must be an object, not {}",
            kind(item)
        ));
        return None;
    };
    let product_id = read_product_id(item)
        .map_err(|reason| reasons.push(format!("items[{index}].{reason}")))
        .ok();
    let quantity = read_quantity(item)
        .map_err(|reason| reasons.push(format!("items[{index}].{reason}")))
        .ok();
    Some(Line {
        product_id: product_id?,
        quantity: quantity?,
    })
}

fn read_product_id(item: &Map<String, Value>) -> Result<ProductId, String> {
    let (name, value) = match (item.get("productId"), item.get("product_id")) {
        (Some(value), None) => ("productId", value),
        (None, Some(value)) => ("product_id", value),
        (None, None) => return Err("productId is missing".to_owned()),
        (Some(_), Some(_)) => {
            return Err("productId and product_id are the same, give one of them".to_owned());
        }
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(format!(
                "{name} must be a string or a whole number, not {}",
                kind(value)
            ));
        }
    };
    ProductId::new(text).map_err(|reason| format!("{name} {reason}"))
}

fn read_quantity(item: &Map<String, Value>) -> Result<i64, String> {
    let value = item.get("quantity").ok_or("quantity is missing")?;
    let quantity = match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    quantity
        .filter(|quantity| (1..=QUANTITY_MAX).contains(quantity))
        .ok_or_else(|| format!("quantity must be a whole number from 1 to {QUANTITY_MAX}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests;
