//! The public test databases of MaxMind: good, corrupt and bad ones.

use super::*;

enum Want {
    /// It opens, provides these facts, and has so many networks.
    Opens(GeoFacts, u64),
    /// It is refused with this word.
    Refused(&'static str),
}

use Want::{Opens, Refused};

const NOTHING: GeoFacts = GeoFacts::NONE;
const COUNTRY: GeoFacts = GeoFacts::COUNTRY.union(GeoFacts::CONTINENT);
const CITY: GeoFacts = COUNTRY.union(GeoFacts::SUBDIVISION);

fn folder() -> Option<PathBuf> {
    let shared = std::env::var_os("PORTCULLIS_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let folder = shared.join("data/mmdb");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no databases at {}", folder.display());
    None
}

fn listed(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            listed(&path, files);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "mmdb")
        {
            files.push(path);
        }
    }
}

/// Addresses of both families that say something about every database: ends, reserved space, and the networks of the files.
pub(super) fn addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = [
        "0.0.0.0",
        "1.1.1.1",
        "1.1.1.3",
        "1.1.1.32",
        "10.0.0.1",
        "127.0.0.1",
        "203.0.113.7",
        "255.255.255.255",
        "::",
        "::1",
        "::1.1.1.1",
        "::ffff:1.1.1.1",
        "2002:101:101::",
        "2001:0:101:101::",
        "2001:db8::1",
        "fe80::1",
        "2a02:d280::1",
        "2a02:d500::1",
        "2001:218::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "81.2.69.142",
        "89.160.20.128",
        "67.43.156.1",
        "2.125.160.216",
        "216.160.83.56",
        "1.128.0.0",
        "1.124.213.1",
        "71.160.223.1",
        "81.2.69.1",
        "186.30.236.1",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec();
    let mut random = Random(7);
    for _ in 0..300 {
        let (a, b) = (random.next(), random.next());
        addresses.push(IpAddr::from(
            u32::try_from(a & 0xffff_ffff).unwrap().to_be_bytes(),
        ));
        let v6 = (u128::from(a) << 80 | u128::from(b)) >> (3 * (a % 2));
        addresses.push(IpAddr::from(v6.to_be_bytes()));
        addresses.push(IpAddr::from((0x2000_u128 << 112 | v6 >> 3).to_be_bytes()));
    }
    addresses
}

#[test]
fn every_public_test_file_is_served_rightly_or_refused() {
    let Some(folder) = folder() else { return };
    let mut files = Vec::new();
    listed(&folder, &mut files);
    assert_eq!(files.len(), WANT.len());
    for (name, want) in WANT {
        let bytes = load(&folder.join(name)).unwrap();
        let started = Instant::now();
        let got = Database::read(&bytes);
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{name} takes too long"
        );
        match (got, want) {
            (Ok(database), Opens(facts, networks)) => {
                assert_eq!(database.provides(), facts, "{name} provides other facts");
                assert_eq!(
                    database.about().networks,
                    networks,
                    "{name} has other networks"
                );
                let reader = Reader::from_source(&bytes[..]).unwrap();
                for address in addresses() {
                    let ours = database.region(address);
                    let theirs = by_crate(&reader, address.to_canonical());
                    assert_eq!(ours, theirs, "{address} in {name}");
                }
            }
            (Err(error), Refused(word)) => {
                let mut text = error.to_string();
                if let Some(source) = std::error::Error::source(&error) {
                    text = format!("{text}: {source}");
                }
                assert!(text.contains(word), "{name} is refused with `{text}`");
            }
            (Ok(database), Refused(_)) => panic!("{name} opens: {:?}", database.about()),
            (Err(error), Opens(..)) => panic!("{name} is refused: {error:?}"),
        }
    }
}

#[test]
fn known_addresses_have_their_region() {
    let Some(folder) = folder() else { return };
    let open = |name: &str| open(&folder.join("good").join(name)).unwrap();
    let countries = open("GeoLite2-Country-Test.mmdb");
    for (address, code, why) in [
        ("127.0.0.1", None, "loopback"),
        ("10.1.2.3", None, "private"),
        ("1.1.1.1", None, "no record at all"),
        ("203.0.113.7", None, "documentation"),
        ("2a02:d500::1", None, "known network, unknown region"),
        (
            "81.2.69.142",
            Some("GB"),
            "registered in US, but country counts",
        ),
        ("89.160.20.112", Some("SE"), "registered in DE"),
        ("2.125.160.216", Some("GB"), "registered in FR"),
        ("67.43.156.1", Some("BT"), "registered in RO"),
        ("217.65.48.7", Some("GI"), "last address of its network"),
        ("217.65.48.8", None, "first address behind it"),
        ("::ffff:81.2.69.142", Some("GB"), "mapped"),
        ("2002:5102:458e::1", Some("GB"), "6to4 of 81.2.69.142"),
        ("2001:218::1", Some("JP"), "IPv6"),
    ] {
        let got = countries.region(address.parse().unwrap());
        assert_eq!(
            got.country.map(|country| country.to_string()).as_deref(),
            code,
            "{address}: {why}"
        );
    }
    let cities = open("GeoIP2-City-Test.mmdb");
    let london = cities.region("81.2.69.160".parse().unwrap());
    assert_eq!(london.subdivisions[0].unwrap().to_string(), "GB-ENG");
    assert_eq!(london.continent.unwrap().to_string(), "EU");
    let two = cities.region("2.125.160.216".parse().unwrap());
    assert_eq!(
        two.subdivisions.map(|found| found.unwrap().to_string()),
        ["GB-ENG", "GB-WBK"]
    );
    let systems = open("GeoLite2-ASN-Test.mmdb");
    assert_eq!(systems.region("1.128.0.1".parse().unwrap()).asn, Some(1221));
    assert_eq!(
        systems.region("127.0.0.1".parse().unwrap()),
        Region::default()
    );
    let anonymizers = open("GeoIP2-Anonymous-IP-Test.mmdb");
    let words = |address: &str| {
        anonymizers
            .region(address.parse().unwrap())
            .anonymizer
            .words()
            .collect::<Vec<_>>()
    };
    assert_eq!(words("1.2.0.0"), ["vpn"]);
    assert_eq!(words("71.160.223.1"), ["hosting"]);
    assert_eq!(words("65.0.0.1"), ["tor"]);
    assert!(words("1.1.1.1").is_empty());
}

/// Flips, cuts and repeats bytes of good files: whatever opens answers as the reader crate does, and nothing panics or hangs.
#[test]
fn damaged_files_are_refused_or_answer_as_the_reader_crate_does() {
    let Some(folder) = folder() else { return };
    let mut random = Random(42);
    let addresses = addresses();
    let (mut opened, mut refused) = (0, 0);
    for name in [
        "GeoLite2-Country-Test.mmdb",
        "MaxMind-DB-test-mixed-32.mmdb",
        "GeoIP2-Anonymous-IP-Test.mmdb",
    ] {
        let good = load(&folder.join("good").join(name)).unwrap();
        for _ in 0..400 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(8) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = 0xff,
                    2 => bytes[at] = 0,
                    _ => bytes[at] ^= 1 << random.below(8),
                }
            }
            let started = Instant::now();
            let database = Database::read(&bytes);
            assert!(started.elapsed() < Duration::from_secs(5));
            let Ok(database) = database else {
                refused += 1;
                continue;
            };
            opened += 1;
            let reader = Reader::from_source(&bytes[..]).unwrap();
            for address in addresses.iter().take(60) {
                let address = address.to_canonical();
                let theirs = by_crate(&reader, address);
                let ours = database.region(address);
                // Codes are checked alike; a lower-case one made by a flipped bit is forgiven by ours only.
                if theirs.country.is_some() {
                    assert_eq!(
                        ours.country, theirs.country,
                        "{address} in a damaged {name}"
                    );
                }
                assert_eq!(ours.asn, theirs.asn, "{address} in a damaged {name}");
                assert_eq!(
                    ours.anonymizer, theirs.anonymizer,
                    "{address} in a damaged {name}"
                );
            }
        }
    }
    assert!(
        opened > 50 && refused > 50,
        "{opened} opened, {refused} refused: the damage tests nothing"
    );
}

/// A larger check with a database of one's own: `PORTCULLIS_MMDB=file.mmdb cargo test own_database -- --nocapture`.
#[test]
fn own_database_answers_as_the_reader_crate_does() {
    let Some(file) = std::env::var_os("PORTCULLIS_MMDB") else {
        println!("skipped: PORTCULLIS_MMDB names no database");
        return;
    };
    let bytes = load(Path::new(&file)).unwrap();
    let started = Instant::now();
    let database = Database::read(&bytes).unwrap();
    println!("{:?} in {:?}", database, started.elapsed());
    let reader = Reader::from_source(&bytes[..]).unwrap();
    let mut random = Random(11);
    let mut listed = 0;
    for _ in 0..200_000 {
        let (a, b) = (random.next(), random.next());
        let v4 = IpAddr::from(u32::try_from(a & 0xffff_ffff).unwrap().to_be_bytes());
        let v6 =
            IpAddr::from((0x2000_u128 << 112 | u128::from(a) << 77 | u128::from(b)).to_be_bytes());
        for address in [v4, v6] {
            let ours = database.region(address);
            assert_eq!(ours, by_crate(&reader, address.to_canonical()), "{address}");
            listed += usize::from(ours != Region::default());
        }
    }
    println!("{listed} of 400000 addresses are listed");
}

/// Some `bad` files have their damage where only some readers look: nothing that a tree record reaches is broken, and they
/// have no facts to answer with.
const WANT: [(&str, Want); 40] = [
    (
        "good/GeoIP2-Anonymous-IP-Test.mmdb",
        Opens(GeoFacts::ANONYMIZER, 599),
    ),
    ("good/GeoIP2-City-Test.mmdb", Opens(CITY, 250)),
    ("good/GeoIP2-Country-Test.mmdb", Opens(COUNTRY, 345)),
    ("good/GeoLite2-ASN-Test.mmdb", Opens(GeoFacts::ASN, 412)),
    ("good/GeoLite2-City-Test.mmdb", Opens(CITY, 242)),
    ("good/GeoLite2-Country-Test.mmdb", Opens(COUNTRY, 244)),
    (
        "good/MaxMind-DB-no-ipv4-search-tree.mmdb",
        Opens(NOTHING, 2),
    ),
    (
        "good/MaxMind-DB-string-value-entries.mmdb",
        Opens(NOTHING, 6),
    ),
    ("good/MaxMind-DB-test-decoder.mmdb", Opens(NOTHING, 8)),
    ("good/MaxMind-DB-test-ipv4-24.mmdb", Opens(NOTHING, 6)),
    ("good/MaxMind-DB-test-ipv6-28.mmdb", Opens(NOTHING, 5)),
    (
        "good/MaxMind-DB-test-metadata-pointers.mmdb",
        Opens(NOTHING, 308),
    ),
    ("good/MaxMind-DB-test-mixed-32.mmdb", Opens(NOTHING, 11)),
    ("good/MaxMind-DB-test-nested.mmdb", Opens(NOTHING, 6)),
    (
        "good/MaxMind-DB-test-pointer-decoder.mmdb",
        Opens(NOTHING, 2),
    ),
    (
        "corrupt/GeoIP2-City-Test-Broken-Double-Format.mmdb",
        Refused("a value has a size that its type does not have"),
    ),
    (
        "corrupt/GeoIP2-City-Test-Invalid-Node-Count.mmdb",
        Refused("the MaxMind DB file's search tree extends beyond the metadata section"),
    ),
    (
        "corrupt/MaxMind-DB-test-broken-pointers-24.mmdb",
        Refused("a value reaches beyond the data section"),
    ),
    (
        "corrupt/MaxMind-DB-test-broken-search-tree-24.mmdb",
        Refused("its search tree is broken"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-corrupt-search-tree.mmdb",
        Opens(NOTHING, 2),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-deep-array-nesting.mmdb",
        Refused("values are nested too deeply"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-deep-nesting.mmdb",
        Refused("values are nested too deeply"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-empty-array-last-in-metadata.mmdb",
        Opens(NOTHING, 2),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-empty-map-last-in-metadata.mmdb",
        Opens(NOTHING, 2),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-metadata-marker-only.mmdb",
        Refused("unexpected end of buffer"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-offset-integer-overflow.mmdb",
        Refused("unexpected end of buffer"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-oversized-array.mmdb",
        Refused("a value reaches beyond the data section"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-oversized-map.mmdb",
        Refused("a value reaches beyond the data section"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-separator-record-max-left.mmdb",
        Refused("its search tree is broken"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-separator-record-min-left.mmdb",
        Refused("its search tree is broken"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-separator-record-min-right.mmdb",
        Refused("its search tree is broken"),
    ),
    (
        "bad/libmaxminddb/libmaxminddb-uint64-max-epoch.mmdb",
        Refused(
            "build_epoch - Unix timestamp is too large to represent as SystemTime: 18446744073709551615",
        ),
    ),
    (
        "bad/maxminddb-golang/cyclic-data-structure.mmdb",
        Refused("u16 of size 1"),
    ),
    (
        "bad/maxminddb-golang/invalid-bytes-length.mmdb",
        Refused("unexpected end of buffer"),
    ),
    (
        "bad/maxminddb-golang/invalid-data-record-offset.mmdb",
        Refused("double of size 6"),
    ),
    (
        "bad/maxminddb-golang/invalid-map-key-length.mmdb",
        Refused("u16 of size 1"),
    ),
    (
        "bad/maxminddb-golang/invalid-string-length.mmdb",
        Refused("unexpected end of buffer"),
    ),
    (
        "bad/maxminddb-golang/metadata-is-an-uint128.mmdb",
        Refused("expected map, got type 10"),
    ),
    (
        "bad/maxminddb-golang/unexpected-bytes.mmdb",
        Refused("expected array, got type 4"),
    ),
    (
        "bad/maxminddb-python/bad-unicode-in-map-key.mmdb",
        Refused("a value reaches beyond the data section"),
    ),
];
