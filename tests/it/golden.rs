//! The copies under `tests/golden` are the shared acceptance data, byte for byte.

use std::fs;
use std::path::Path;

use crate::support;

/// Every file of `tests/golden/conformance` equals the shared one, and none is missing, where the shared ones exist.
#[test]
fn conformance_copy_equals_the_shared_one() {
    let Some(shared) = support::shared("conformance") else {
        println!("skipped: no shared folder beside this clone");
        return;
    };
    let copy = support::golden("conformance");
    assert_eq!(names(&shared), names(&copy), "the same files");
    for name in names(&shared) {
        assert!(
            fs::read(shared.join(&name)).unwrap() == fs::read(copy.join(&name)).unwrap(),
            "{name} differs from the shared one"
        );
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
