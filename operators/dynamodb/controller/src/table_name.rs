//! What a table can be called.

/// Characters of a name, at least and at most.
const LENGTH: std::ops::RangeInclusive<usize> = 3..=255;

/// Not a table's name. The message continues after the name of the field or flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name of a table: write 3 to 255 letters, digits, '_', '-' and '.', or the table's ARN, arn:aws:dynamodb:REGION:ACCOUNT:table/NAME"
)]
pub struct TableNameError(String);

/// Refuses what DynamoDB takes for no table: anything but 3 to 255 of `A-Za-z0-9_.-`, or an ARN of a table with such a
/// name.
///
/// # Errors
/// [`TableNameError`], with the beginning of a long name.
pub fn check(name: &str) -> Result<(), TableNameError> {
    let bare = if name.starts_with("arn:") {
        in_arn(name).unwrap_or_default()
    } else {
        name
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if LENGTH.contains(&bare.len()) && bare.bytes().all(known) {
        return Ok(());
    }
    let shown: String = name.chars().take(60).collect();
    let rest = if shown.len() < name.len() { "…" } else { "" };
    Err(TableNameError(format!("{shown}{rest}")))
}

/// The name in `arn:PARTITION:dynamodb:REGION:ACCOUNT:table/NAME`.
fn in_arn(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':').skip(1);
    let (partition, service) = (parts.next()?, parts.next()?);
    let (region, account) = (parts.next()?, parts.next()?);
    let usable = service == "dynamodb" && ![partition, region, account].contains(&"");
    parts.next()?.strip_prefix("table/").filter(|_| usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_of_tables_are_let_through() {
        let longest = "t".repeat(255);
        let arn = "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/Orders";
        for name in ["Ord", "tenant_1.orders-EU", arn, &longest] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_no_table_is_called_is_told_with_what_to_write_instead() {
        let long = "t".repeat(300);
        for name in [
            "",
            "ab",
            "a/b",
            "Orders ",
            "Örders",
            &long,
            "arn:aws:s3:::table/Orders",
            "arn:aws:dynamodb:us-east-1:123456789012:index/Orders",
            "arn:aws:dynamodb:us-east-1:123456789012:table/a/b",
            "arn:aws:dynamodb",
        ] {
            let error = check(name).unwrap_err().to_string();
            assert!(error.contains("3 to 255") && error.len() < 300, "{error}");
        }
    }
}
