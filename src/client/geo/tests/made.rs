//! Databases that we write, and the shapes of others.

use super::*;

#[test]
fn a_table_becomes_a_database_that_the_reader_crate_understands() {
    let table = "network,country,continent,subdivision,asn,as_org,anonymizers\n\
        198.51.100.0/24,NL,EU,NL-NH,64500,\"Example, \"\"Inc.\"\"\",\n\
        198.51.100.128/25,DE,EU,,,,vpn hosting\n\
        2001:db8::/32,US,NA,US-CA,64501,Example,\n\
        2001:db8::1,,,,4294967295,,tor residential_proxy\n\
        ::/0,AQ,AN,,,,public_proxy\n";
    let entries = csv::parse(table).unwrap();
    for size in [RecordSize::Bits24, RecordSize::Bits28, RecordSize::Bits32] {
        let bytes = writer::write_wide(&entries, &LABEL, size).unwrap();
        let database = Database::read(&bytes).unwrap();
        assert_eq!(database.provides(), GeoFacts::ALL);
        let about = database.about();
        assert_eq!((about.kind.as_str(), about.ip_version), ("Test", 6));
        assert_eq!(about.built, Some("2023-11-14T22:13:20Z".parse().unwrap()));
        let reader = Reader::from_source(&bytes[..]).unwrap();
        // Its own verification, which refuses many a published file, finds nothing to say about ours.
        reader.verify().unwrap();
        for (address, country, asn, words, network) in [
            ("198.51.99.255", None, None, "", "198.51.96.0/22"), // IPv4 has nothing of `::/0`
            (
                "198.51.100.127",
                Some("NL"),
                Some(64500),
                "",
                "198.51.100.0/25",
            ),
            (
                "198.51.100.128",
                Some("DE"),
                None,
                "vpn hosting",
                "198.51.100.128/25",
            ),
            (
                "::ffff:198.51.100.127",
                Some("NL"),
                Some(64500),
                "",
                "198.51.100.0/25",
            ),
            ("2001:db8::", Some("US"), Some(64501), "", "2001:db8::/128"),
            (
                "2001:db8::1",
                None,
                Some(u32::MAX),
                "tor residential_proxy",
                "2001:db8::1/128",
            ),
            (
                "2001:db8::2",
                Some("US"),
                Some(64501),
                "",
                "2001:db8::2/127",
            ),
            ("fe80::1", Some("AQ"), None, "public_proxy", "8000::/1"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            let got = database.region(address);
            assert_eq!(
                got.country,
                country.map(|code| code.parse().unwrap()),
                "{address}"
            );
            assert_eq!(got.asn, asn, "{address}");
            assert_eq!(
                got.anonymizer.words().collect::<Vec<_>>().join(" "),
                words,
                "{address}"
            );
            assert_eq!(got, by_crate(&reader, address.to_canonical()), "{address}");
            let found = super::network(&bytes, address.to_canonical())
                .unwrap()
                .unwrap();
            assert_eq!(found.to_string(), network);
        }
        let nl = reader.lookup("198.51.100.1".parse().unwrap()).unwrap();
        let city: maxminddb::geoip2::City<'_> = nl.decode().unwrap().unwrap();
        assert_eq!(city.country.names.english, Some("Netherlands"));
        assert_eq!(city.subdivisions[0].iso_code, Some("NH"));
        let org: Option<String> = nl
            .decode_path(&path!["autonomous_system_organization"])
            .unwrap();
        assert_eq!(org.as_deref(), Some("Example, \"Inc.\""));
    }
}

#[test]
fn equal_input_gives_equal_bytes_and_equal_records_are_shared() {
    let entries: Vec<Entry> = (0..=255_u8)
        .map(|third| Entry {
            network: IpNet::V4(Ipv4Net::new([10, 0, third, 0].into(), 24).unwrap()),
            region: Region {
                country: country(if third % 2 == 0 { "NL" } else { "BE" }),
                ..Region::default()
            },
            as_org: None,
        })
        .collect();
    let bytes = write(&entries, &LABEL).unwrap();
    let mut backwards = entries.clone();
    backwards.reverse();
    assert_eq!(bytes, write(&entries, &LABEL).unwrap());
    assert!(bytes.len() < 4096, "{} bytes for two records", bytes.len());
    let database = Database::read(&bytes).unwrap();
    assert_eq!(
        (database.about().networks, database.about().regions),
        (256, 2)
    );
    let reversed = Database::read(&write(&backwards, &LABEL).unwrap()).unwrap();
    for entry in entries {
        assert_eq!(database.region(entry.network.addr()), entry.region);
        assert_eq!(reversed.region(entry.network.addr()), entry.region);
    }
}

#[test]
fn a_large_table_has_a_root_and_long_texts_and_pointers_of_every_width() {
    // 20 000 networks with a text of their own each: pointers of two, three and four bytes, more than SMALL ranges.
    let entries: Vec<Entry> = (0..20_000_u32)
        .map(|at| Entry {
            network: IpNet::V4(Ipv4Net::new((at << 12).into(), 20).unwrap()),
            region: Region {
                asn: Some(at + 1),
                ..Region::default()
            },
            as_org: Some(format!(
                "{at} {}",
                "x".repeat(usize::try_from(at % 400).unwrap())
            )),
        })
        .collect();
    let bytes = write(&entries, &LABEL).unwrap();
    let database = Database::read(&bytes).unwrap();
    let reader = Reader::from_source(&bytes[..]).unwrap();
    let mut random = Random(3);
    for _ in 0..3000 {
        let address = u32::try_from(random.next() & 0xffff_ffff).unwrap();
        let want = (address >> 12 < 20_000).then_some((address >> 12) + 1);
        assert_eq!(
            database.region(IpAddr::V4(address.into())).asn,
            want,
            "{address}"
        );
    }
    for at in [0, 1, 399, 10_000, 19_999] {
        let entry: &Entry = &entries[at];
        let found = reader.lookup(entry.network.addr()).unwrap();
        let org: Option<String> = found
            .decode_path(&path!["autonomous_system_organization"])
            .unwrap();
        assert_eq!(org, entry.as_org);
    }
}

#[test]
fn records_of_28_bits_keep_their_halves_apart() {
    // The upper bits of both halves share a byte; they are not zero only beyond 16 MiB of data.
    let record = |code: &str| map(&[("country_code", text(code))]);
    let mut data = record("NL");
    data.resize(17 << 20, 0);
    let far = data.len();
    data.extend(record("DE"));
    for (low, high) in [(0, far), (far, 0)] {
        let halves = ["0.0.0.0/1", "128.0.0.0/1"].map(|text| text.parse::<IpNet>().unwrap());
        let records = halves.into_iter().zip([low, high]).collect();
        let bytes = assemble(records, &data, &LABEL, RecordSize::Bits24).unwrap();
        let database = Database::read(&bytes).unwrap();
        assert_eq!(database.about().record_size, 28);
        let reader = Reader::from_source(&bytes[..]).unwrap();
        for address in ["1.1.1.1", "200.1.1.1"] {
            let address = address.parse().unwrap();
            assert_eq!(
                database.region(address),
                by_crate(&reader, address),
                "{address}"
            );
        }
        let want = if low == 0 { "NL" } else { "DE" };
        assert_eq!(
            database.region("1.1.1.1".parse().unwrap()).country,
            country(want)
        );
    }
}

/// A database with one network of this record, in any shape.
fn shaped(record: &[u8]) -> Database {
    let network: IpNet = "192.0.2.0/24".parse().unwrap();
    let bytes = assemble(vec![(network, 0)], record, &LABEL, RecordSize::Bits24).unwrap();
    Database::read(&bytes).unwrap()
}

#[test]
fn shapes_are_recognised_by_their_keys() {
    let truth = |is: bool| vec![u8::from(is), 7];
    let list = |items: &[Vec<u8>]| [head(ARRAY, items.len()), items.concat()].concat();
    let code = |key: &str, value: &str| map(&[(key, text(value))]);
    for (why, record, want, facts) in [
        ("no map", text("NL"), "", ""),
        ("nothing known", map(&[("city", text("Delft"))]), "", ""),
        (
            "registered country does not count",
            map(&[("registered_country", code("iso_code", "NL"))]),
            "",
            "",
        ),
        (
            "GeoIP2",
            map(&[
                ("continent", code("code", "EU")),
                ("country", code("iso_code", "NL")),
                ("registered_country", code("iso_code", "US")),
                ("subdivisions", list(&[code("iso_code", "NH")])),
            ]),
            "NL EU NL-NH",
            "country continent subdivision",
        ),
        (
            "a country that is none",
            map(&[("country", code("iso_code", "EU"))]),
            "",
            "country",
        ),
        (
            "a country without code",
            map(&[("country", map(&[("geoname_id", unsigned(6, 1))]))]),
            "",
            "",
        ),
        (
            "ip-location-db",
            map(&[("country_code", text("GB"))]),
            "GB",
            "country",
        ),
        (
            "lower case",
            map(&[("country_code", text("gb"))]),
            "GB",
            "country",
        ),
        (
            "IPinfo lite",
            map(&[
                ("as_domain", text("cloudflare.com")),
                ("as_name", text("Cloudflare")),
                ("asn", text("AS13335")),
                ("continent", text("Oceania")),
                ("continent_code", text("OC")),
                ("country", text("Australia")),
                ("country_code", text("AU")),
            ]),
            "AU OC AS13335",
            "country continent asn",
        ),
        (
            "older IPinfo",
            map(&[
                ("continent", text("OC")),
                ("continent_name", text("Oceania")),
                ("country", text("AU")),
                ("country_name", text("Australia")),
            ]),
            "AU OC",
            "country continent",
        ),
        (
            "a name of two letters beside a code",
            map(&[("country_code", text("AU")), ("country", text("XX"))]),
            "AU",
            "country",
        ),
        (
            "the same the other way round",
            map(&[("country", text("XX")), ("country_code", text("AU"))]),
            "AU",
            "country",
        ),
        (
            "nested wins over flat",
            map(&[
                ("country_code", text("DE")),
                ("country", code("iso_code", "NL")),
            ]),
            "NL",
            "country",
        ),
        (
            "regions of IPinfo",
            map(&[("country_code", text("US")), ("region_code", text("CA"))]),
            "US US-CA",
            "country subdivision",
        ),
        (
            "whole subdivision codes",
            map(&[("country_code", text("US")), ("region_code", text("US-CA"))]),
            "US US-CA",
            "country subdivision",
        ),
        (
            "ASN",
            map(&[("autonomous_system_number", unsigned(6, 1221))]),
            "AS1221",
            "asn",
        ),
        (
            "ASN as text",
            map(&[("asn", text("13335"))]),
            "AS13335",
            "asn",
        ),
        (
            "ASN beyond 32 bits",
            map(&[("autonomous_system_number", unsigned(9, 1 << 40))]),
            "",
            "asn",
        ),
        ("ASN that is none", map(&[("asn", text("unknown"))]), "", ""),
        (
            "Anonymous-IP",
            map(&[
                ("is_anonymous", truth(true)),
                ("is_tor_exit_node", truth(true)),
                ("is_public_proxy", truth(false)),
            ]),
            "tor",
            "anonymizer",
        ),
        (
            "no anonymizer, but a place for it",
            map(&[("is_anonymous_vpn", truth(false))]),
            "",
            "anonymizer",
        ),
        (
            "IPinfo privacy",
            map(&[
                ("vpn", text("true")),
                ("hosting", text("")),
                ("proxy", text("1")),
                ("tor", text("false")),
            ]),
            "vpn public_proxy",
            "anonymizer",
        ),
        (
            "Enterprise",
            map(&[
                ("country", code("iso_code", "NL")),
                (
                    "traits",
                    map(&[
                        ("autonomous_system_number", unsigned(6, 7)),
                        ("is_residential_proxy", truth(true)),
                    ]),
                ),
            ]),
            "NL AS7 residential_proxy",
            "country asn anonymizer",
        ),
        (
            "wrong types are absent",
            map(&[
                ("country", unsigned(6, 1)),
                ("continent", truth(true)),
                ("subdivisions", text("NH")),
                ("asn", truth(true)),
            ]),
            "",
            "",
        ),
    ] {
        let database = shaped(&record);
        let region = database.region("192.0.2.9".parse().unwrap());
        let mut got: Vec<String> = Vec::new();
        got.extend(region.country.map(|country| country.to_string()));
        got.extend(region.continent.map(|continent| continent.to_string()));
        got.extend(
            region
                .subdivisions
                .iter()
                .flatten()
                .map(ToString::to_string),
        );
        got.extend(region.asn.map(|asn| format!("AS{asn}")));
        got.extend(region.anonymizer.words().map(str::to_owned));
        assert_eq!(got.join(" "), want, "{why}");
        assert_eq!(
            database.provides().words().collect::<Vec<_>>().join(" "),
            facts,
            "{why}"
        );
        assert_eq!(
            database.region("192.0.3.0".parse().unwrap()),
            Region::default(),
            "{why}"
        );
    }
}

#[test]
fn mistakes_in_a_table_are_named_with_their_lines() {
    let head = "network,country,continent,subdivision,asn,as_org,anonymizers\n";
    for (rows, line, message) in [
        (
            "10.0.0.1/8,NL",
            2,
            "`10.0.0.1/8` has host bits, did you mean `10.0.0.0/8`",
        ),
        ("10.0.0.0/33,NL", 2, "`10.0.0.0/33` is no network"),
        (",NL", 2, "the network is empty"),
        (
            "10.0.0.0/8,UK",
            2,
            "`UK` is not an assigned country code, did you mean `GB`",
        ),
        ("10.0.0.0/8,QQ", 2, "`QQ` is not an assigned country code"),
        (
            "10.0.0.0/8,NL,XX",
            2,
            "`XX` is not a continent (AF AN AS EU NA OC SA)",
        ),
        (
            "10.0.0.0/8,NL,,US-CA",
            2,
            "subdivision `US-CA` is not in the country of its line",
        ),
        (
            "10.0.0.0/8,,,US-CA",
            2,
            "subdivision `US-CA` is not in the country of its line",
        ),
        ("10.0.0.0/8,,,,ASX", 2, "`ASX` is no AS number"),
        ("10.0.0.0/8,,,,0", 2, "`0` is no AS number"),
        (
            "10.0.0.0/8,,,,4294967296",
            2,
            "`4294967296` is no AS number",
        ),
        (
            "10.0.0.0/8,,,,,,vnp",
            2,
            "`vnp` is no anonymizer (known: vpn tor hosting public_proxy residential_proxy)",
        ),
        (
            "10.0.0.0/8,,,,,,vpn,x",
            2,
            "8 fields, but the header has 7 columns",
        ),
        ("10.0.0.0/8,,,,,\"x", 2, "a quote is not closed"),
        ("10.0.0.0/8,,,,,\"x\"y", 2, "text behind a closing quote"),
        (
            "::ffff:10.0.0.0/104,NL",
            2,
            "`::ffff:10.0.0.0/104` is IPv4 space, write it as an IPv4 network",
        ),
        (
            "# comment\n\n10.0.0.0/8,NL\n10.0.0.0/8,DE",
            5,
            "`10.0.0.0/8` stands in line 4 already",
        ),
    ] {
        let mistakes = csv::parse(&format!("{head}{rows}")).unwrap_err();
        let want = csv::Mistake {
            line,
            message: message.to_owned(),
        };
        assert_eq!(mistakes, [want], "{rows}");
    }
    for (text, message) in [
        (
            "",
            "no header line, such as `network,country,continent,subdivision,asn,as_org,anonymizers`",
        ),
        (
            "# only a comment\n",
            "no header line, such as `network,country,continent,subdivision,asn,as_org,anonymizers`",
        ),
        ("country\n", "the header has no column `network`"),
        ("network,network\n", "column `network` stands twice"),
        (
            "network,contry\n",
            "unknown column `contry` (the columns are network, country, continent, subdivision, asn, as_org, anonymizers)",
        ),
    ] {
        assert_eq!(csv::parse(text).unwrap_err()[0].message, message, "{text}");
    }
    // Every mistake at once, whatever the line ends and a mark before the first line.
    let mistakes =
        csv::parse("\u{feff}country, network\r\nUK,x\r\nNL, 10.0.0.0/8\r\nXX,y\r\n").unwrap_err();
    assert_eq!(
        mistakes
            .iter()
            .map(|mistake| mistake.line)
            .collect::<Vec<_>>(),
        [2, 4]
    );
}

#[test]
fn the_demo_table_gives_documentation_addresses_to_countries() {
    let database = demo::database(1_700_000_000).unwrap();
    assert_eq!(database.provides(), GeoFacts::ALL);
    for (address, code) in [
        ("127.0.0.1", None),
        ("203.0.113.250", None),
        ("198.51.100.7", Some("NL")),
        ("198.51.100.130", Some("DE")),
        ("203.0.113.9", Some("GB")),
        ("203.0.113.130", Some("NO")),
        ("192.0.2.1", Some("US")),
        ("2001:db8:3000::1", Some("NO")),
    ] {
        let region = database.region(address.parse().unwrap());
        assert_eq!(
            region.country.map(|country| country.to_string()).as_deref(),
            code,
            "{address}"
        );
    }
    let documentation = [
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",
    ];
    let documentation: Vec<IpNet> = documentation.map(|text| text.parse().unwrap()).to_vec();
    for entry in csv::parse(demo::TABLE).unwrap() {
        assert!(
            documentation.iter().any(|net| net.contains(&entry.network)),
            "{} belongs to somebody",
            entry.network
        );
    }
}

/// The obvious answer: the narrowest network of the address's family. The format keeps IPv4 at `::/96`, so that the deprecated
/// `::192.0.2.1` is the same as `192.0.2.1`.
fn naive(entries: &[Entry], address: IpAddr) -> Region {
    let address = match address.to_canonical() {
        IpAddr::V6(v6) if v6.to_bits() >> 32 == 0 => IpAddr::V4(v6.to_ipv4().unwrap()),
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(v6),
    };
    let mut best: Option<&Entry> = None;
    for entry in entries {
        let narrower =
            best.is_none_or(|best| best.network.prefix_len() < entry.network.prefix_len());
        if entry.network.contains(&address) && narrower {
            best = Some(entry);
        }
    }
    best.map(|entry| entry.region).unwrap_or_default()
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let codes = prop_oneof![Just("NL"), Just("DE"), Just("US"), Just("JP")];
    // Few different bits, so that networks overlap and neighbours meet.
    let v4 = (0..8_u32, 0..8_u32, 0..=32_u8).prop_map(|(upper, lower, length)| {
        IpNet::V4(
            Ipv4Net::new((upper << 29 | lower << 8 | lower).into(), length)
                .unwrap()
                .trunc(),
        )
    });
    let v6 = (0..4_u128, 0..4_u128, 0..=128_u8).prop_map(|(upper, lower, length)| {
        IpNet::V6(
            Ipv6Net::new(
                (upper << 125 | 1 << 120 | lower << 60 | lower).into(),
                length,
            )
            .unwrap()
            .trunc(),
        )
    });
    let network = prop_oneof![2 => v4, 1 => v6];
    let entry = (network, codes, 0..3_u32).prop_map(|(network, code, asn)| Entry {
        network,
        region: Region {
            country: country(code),
            asn: (asn > 0).then_some(asn),
            ..Region::default()
        },
        as_org: None,
    });
    proptest::collection::vec(entry, 0..40).prop_map(|mut entries| {
        entries.sort_by_key(|entry| entry.network);
        entries.dedup_by_key(|entry| entry.network);
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_most_specific_network_answers(
        entries in entries(),
        v4 in proptest::collection::vec((0..8_u32, 0..8_u32, 0..512_u32), 30),
        v6 in proptest::collection::vec((0..4_u128, 0..4_u128, 0..4_u128), 30),
    ) {
        let bytes = write(&entries, &LABEL).unwrap();
        let database = Database::read(&bytes).unwrap();
        let reader = Reader::from_source(&bytes[..]).unwrap();
        let v4 = v4.into_iter().map(|(a, b, c)| IpAddr::V4((a << 29 | b << 8 | c).into()));
        let v6 = v6.into_iter().map(|(a, b, c)| IpAddr::V6((a << 125 | 1 << 120 | b << 60 | c).into()));
        let edges = entries.iter().flat_map(|entry| [entry.network.network(), entry.network.broadcast()]);
        for address in v4.chain(v6).chain(edges) {
            let want = naive(&entries, address);
            prop_assert_eq!(database.region(address), want, "{}", address);
            prop_assert_eq!(by_crate(&reader, address.to_canonical()), want, "{}", address);
        }
    }
}
