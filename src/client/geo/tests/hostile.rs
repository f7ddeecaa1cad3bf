//! Databases made to hurt: loops, explosions, wrong metadata.

use super::*;

/// A database with these tree records, data and metadata overrides, with records of 24 bits.
fn database(nodes: &[(u32, u32)], data: &[u8], overrides: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (left, right) in nodes {
        bytes.extend_from_slice(&left.to_be_bytes()[1..]);
        bytes.extend_from_slice(&right.to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let mut fields = vec![
        ("node_count", unsigned(6, nodes.len() as u64)),
        ("record_size", unsigned(5, 24)),
        ("ip_version", unsigned(5, 4)),
        ("database_type", text("Hostile")),
        ("languages", head(ARRAY, 0)),
        ("binary_format_major_version", unsigned(5, 2)),
        ("binary_format_minor_version", unsigned(5, 0)),
        ("build_epoch", unsigned(9, 1)),
        ("description", map(&[])),
    ];
    for (key, value) in overrides {
        for field in &mut fields {
            if field.0 == *key {
                field.1 = value.clone();
            }
        }
    }
    bytes.extend(map(&fields));
    bytes
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..depth {
        bytes.extend(head(ARRAY, 1));
    }
    bytes.extend(unsigned(5, 1));
    bytes
}

#[test]
fn hostile_files_are_refused_in_time() {
    // One node, both halves at offset 0 of the data section.
    let one = [(17, 17)];
    let fine = map(&[("country_code", text("NL"))]);
    // A tree of 32 levels whose halves are the same: 2^32 paths.
    let explosion: Vec<(u32, u32)> = (1..=31)
        .map(|next| (next, next))
        .chain([(48, 48)])
        .collect();
    let overlapping: Vec<u8> = {
        // Every byte begins a text that runs to the end: reading each from each offset would take the square.
        let mut bytes = vec![0x5f, 0xff, 0xff, 0xff];
        bytes.resize(100_000, 0x5f);
        bytes
    };
    for (why, bytes, want) in [
        ("the plain one", database(&one, &fine, &[]), None),
        (
            "a node that is its own child",
            database(&[(0, 0)], &fine, &[]),
            Some("Tree"),
        ),
        (
            "two nodes in a circle",
            database(&[(1, 1), (0, 0)], &fine, &[]),
            Some("Tree"),
        ),
        (
            "equal halves at every level",
            database(&explosion, &fine, &[]),
            Some("TooMuchWork"),
        ),
        (
            "a leaf in the separator",
            database(&[(2, 2)], &fine, &[]),
            Some("Tree"),
        ),
        (
            "a leaf behind the data",
            database(&[(17, 9999)], &fine, &[]),
            Some("Truncated"),
        ),
        ("no nodes", database(&[], &fine, &[]), Some("Metadata")),
        (
            "more nodes than bytes",
            database(&one, &fine, &[("node_count", unsigned(6, 0xffff_ffff))]),
            Some("Metadata"),
        ),
        (
            "records of 0 bits",
            database(&one, &fine, &[("record_size", unsigned(5, 0))]),
            Some("Metadata"),
        ),
        (
            "records of 65 535 bits",
            database(&one, &fine, &[("record_size", unsigned(5, 65_535))]),
            Some("Metadata"),
        ),
        (
            "IPv5",
            database(&one, &fine, &[("ip_version", unsigned(5, 5))]),
            Some("Metadata"),
        ),
        (
            "another format",
            database(
                &one,
                &fine,
                &[("binary_format_major_version", unsigned(5, 3))],
            ),
            Some("Metadata"),
        ),
        (
            "a pointer at itself",
            database(&one, &[0x20, 0x00], &[]),
            Some("PointerToPointer"),
        ),
        (
            "an array that holds itself",
            database(&one, &[0x01, 0x04, 0x20, 0x00], &[]),
            Some("Cycle"),
        ),
        (
            "48 levels of arrays",
            database(&one, &nested(48), &[]),
            Some("TooDeep"),
        ),
        (
            "47 levels of arrays",
            database(&one, &nested(47), &[]),
            None,
        ),
        (
            "a million levels of arrays",
            database(&one, &nested(1_000_000), &[]),
            Some("TooDeep"),
        ),
        (
            "a map of 16 million pairs",
            database(&one, &[0xff, 0xff, 0xff, 0xff], &[]),
            Some("Truncated"),
        ),
        (
            "a key that is a number",
            database(&one, &[0xe1, 0xa1, 0x01, 0xa1, 0x01], &[]),
            Some("Key"),
        ),
        (
            "a key that is no UTF-8",
            database(&one, &[0xe1, 0x41, 0xff, 0xa1, 0x01], &[]),
            Some("Key"),
        ),
        (
            "a double of 3 bytes",
            database(&one, &[0x63, 1, 2, 3], &[]),
            Some("WrongSize"),
        ),
        (
            "an end marker",
            database(&one, &[0x00, 0x06], &[]),
            Some("UnknownType"),
        ),
        (
            "texts that overlap",
            database(&one, &overlapping, &[]),
            Some("Truncated"),
        ),
        ("nothing", Vec::new(), Some("Metadata")),
        ("text", b"this is no database".to_vec(), Some("Metadata")),
    ] {
        let started = Instant::now();
        let got = Database::read(&bytes);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{why} takes too long"
        );
        match (&got, want) {
            (Err(error), Some(word)) => {
                let text = format!("{error:?}");
                assert!(text.starts_with(word), "{why}: {text}");
            }
            (Ok(_), None) => {}
            (Ok(_), Some(_)) => panic!("{why} opens"),
            (Err(error), None) => panic!("{why} is refused: {error:?}"),
        }
    }
}

#[test]
fn many_records_inside_one_another_are_refused_in_time() {
    // Each of 2000 records is an array whose first element, bytes, hides the heads of the records behind it, and whose other
    // elements are the 60 000 at the end: every record walks them anew.
    const RECORDS: usize = 2048;
    const STRIDE: usize = 7;
    let mut data = Vec::new();
    for record in 0..RECORDS {
        data.extend(head(ARRAY, 60_000));
        data.extend(head(4, (RECORDS - 1 - record) * STRIDE + 300));
    }
    assert_eq!(data.len(), RECORDS * STRIDE);
    data.extend([0; 300]);
    data.extend([0xa0; 60_000]);
    let inner = RECORDS - 1;
    let child = |child: usize| {
        if child < inner {
            child
        } else {
            inner + 16 + (child - inner) * STRIDE
        }
    };
    let child = |number: usize| u32::try_from(child(number)).unwrap();
    let nodes: Vec<(u32, u32)> = (0..inner)
        .map(|node| (child(2 * node + 1), child(2 * node + 2)))
        .collect();
    let started = Instant::now();
    let got = Database::read(&database(&nodes, &data, &[]));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(matches!(got, Err(Broken::TooMuchWork)), "{got:?}");
}

#[test]
fn an_absurd_build_time_is_no_time() {
    let fine = map(&[("country_code", text("NL"))]);
    for (epoch, known) in [
        (0, true),
        (1_700_000_000, true),
        (253_402_207_201, false),
        (1 << 62, false),
    ] {
        let bytes = database(&[(17, 17)], &fine, &[("build_epoch", unsigned(9, epoch))]);
        let database = Database::read(&bytes).unwrap();
        assert_eq!(database.about().built.is_some(), known, "{epoch}");
        assert_eq!(
            database.region("192.0.2.1".parse().unwrap()).country,
            country("NL")
        );
    }
}

#[test]
fn only_regular_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        matches!(open(folder.path()), Err(OpenError::Unreadable(_))),
        "a folder"
    );
    assert!(
        matches!(open(Path::new("/dev/zero")), Err(OpenError::Unreadable(_))),
        "endless"
    );
    assert!(
        matches!(
            open(&folder.path().join("none")),
            Err(OpenError::Unreadable(_))
        ),
        "absent"
    );
    let empty = folder.path().join("empty.mmdb");
    std::fs::write(&empty, "").unwrap();
    assert!(matches!(open(&empty), Err(OpenError::Broken(_))), "empty");
}
