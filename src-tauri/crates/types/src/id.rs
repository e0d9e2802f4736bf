//! Ids of jobs and models: a prefix and the second they were made in.

use jiff::Timestamp;

/// The time now, RFC 3339 in UTC with whole seconds and a `Z`.
pub fn now_rfc3339() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `<prefix>_YYYYMMDD_HHMMSS` of the time now in UTC; while `taken` says that it is, `_2`, `_3`, … follow.
///
/// `taken` decides and reserves in one go where two callers may race: let it create the folder.
pub fn fresh(prefix: &str, mut taken: impl FnMut(&str) -> bool) -> String {
    let base = format!("{prefix}_{}", Timestamp::now().strftime("%Y%m%d_%H%M%S"));
    let mut id = base.clone();
    let mut n = 1;
    while taken(&id) {
        n += 1;
        id = format!("{base}_{n}");
    }
    id
}

/// Whether `id` is `<prefix>_` and digits and underscores only, so that it can safely name a folder.
pub fn is_valid(prefix: &str, id: &str) -> bool {
    id.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || b == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_id_in_the_same_second_gets_a_suffix() {
        let first = fresh("train", |_| false);
        let second = fresh("train", |id| !id.ends_with("_2"));
        assert!(is_valid("train", &first), "ids are a prefix, a date and a time");
        assert!(second.ends_with("_2") && is_valid("train", &second), "the second id of a second ends in _2");
    }

    #[test]
    fn ids_cannot_leave_their_folder() {
        for bad in ["train_", "train_../x", "train_2024/1", "model_2024", "train_2024\0", ""] {
            assert!(!is_valid("train", bad), "{bad:?} must not name a folder");
        }
    }
}
