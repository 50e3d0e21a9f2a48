//! Makes tar archives: of every format, with every odd combination, and damaged ones.

use super::headers::{Block, GNU, Records, USTAR, octal, set_checksum, with_nul};

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// True `count` times in `of`.
    pub(crate) fn chance(&mut self, count: u64, of: u64) -> bool {
        self.below(of) < count
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Gnu,
    Pax,
}

/// One archive, and in words what kind it is.
pub(crate) fn archive(seed: u64) -> (Vec<u8>, &'static str) {
    let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95));
    random.number();
    let plan = random.below(100);
    // How many places of this archive are odd, on average one of `odd` is.
    let (odd, kind) = match plan {
        0..48 => (0, "regular"),
        48..80 => (90, "slightly odd"),
        80..88 => (12, "odd"),
        _ => (0, "mutated"),
    };
    let mut writer = Writer { random, odd, bytes: Vec::new(), headers: Vec::new() };
    writer.write();
    if kind == "mutated" {
        writer.mutate();
    }
    (writer.bytes, kind)
}

struct Writer {
    random: Random,
    odd: u64,
    bytes: Vec<u8>,
    /// Where the headers lie.
    headers: Vec<usize>,
}

impl Writer {
    fn is_odd(&mut self) -> bool {
        self.odd > 0 && self.random.chance(1, self.odd)
    }

    fn write(&mut self) {
        let format = [Format::V7, Format::Ustar, Format::Gnu, Format::Pax, Format::Pax, Format::Gnu]
            [self.random.below(6) as usize];
        if format == Format::Pax && self.random.chance(1, 8) {
            self.global();
        }
        let members = match self.random.below(12) {
            0 => 0,
            1..5 => 1,
            _ => 1 + self.random.below(6),
        };
        for _ in 0..members {
            let format = if self.is_odd() {
                [Format::V7, Format::Ustar, Format::Gnu, Format::Pax][self.random.below(4) as usize]
            } else {
                format
            };
            self.member(format);
        }
        self.end();
    }

    fn end(&mut self) {
        let blocks = match self.random.below(10) {
            0 => 0,
            1 => 1,
            2..6 => 2,
            _ => (self.bytes.len() / 512 + 2).next_multiple_of(20) - self.bytes.len() / 512,
        };
        self.bytes.resize(self.bytes.len() + blocks * 512, 0);
        if self.odd > 0 && self.random.chance(1, self.odd * 16) {
            match self.random.below(4) {
                0 => self.bytes.extend([0; 100]),
                1 => self.bytes.extend(b"trailing"),
                2 => self.member(Format::Ustar),
                _ => self.bytes.extend([0x41; 512]),
            }
        }
    }

    fn component(&mut self) -> Vec<u8> {
        let length = 1 + self.random.below(12);
        let mut name: Vec<u8> = match self.random.below(14) {
            0 => "datei-ü".into(),
            1 => b".wh.gone".to_vec(),
            2 => b".wh..wh..opq".to_vec(),
            3 => b"a b".to_vec(),
            _ => (0..length).map(|_| b'a' + self.random.below(26) as u8).collect(),
        };
        if self.is_odd() {
            let odd: &[&[u8]] = &[b"\n", b"\\", b"\"", b"\xff\xfe", b"..", b".", b" ", b"-> ", b"\x01", b"?", b"\xc3"];
            let extra = self.random.pick(odd).to_vec();
            if self.random.chance(1, 2) { name.extend(extra) } else { name = extra }
        }
        name
    }

    fn path(&mut self, long: bool) -> Vec<u8> {
        let mut path = match self.random.below(12) {
            0 => b"./".to_vec(),
            1 if self.is_odd() => b"/".to_vec(),
            2 if self.is_odd() => b"../".to_vec(),
            _ => Vec::new(),
        };
        for at in 0..1 + self.random.below(4) {
            if at > 0 {
                path.push(b'/');
            }
            path.extend(self.component());
        }
        while long && path.len() < 110 {
            path.push(b'/');
            path.extend(self.component());
        }
        if self.is_odd() {
            match self.random.below(6) {
                0 => path.push(b'/'),
                1 => path.extend(b"//"),
                2 => path.extend(b"/."),
                3 => path.insert(0, b'/'),
                4 if self.random.chance(1, 6) => path.clear(),
                _ => path.push(0),
            }
        }
        path
    }

    /// A member with all its extension headers and its content.
    fn member(&mut self, format: Format) {
        let mut flag = match self.random.below(20) {
            0..10 => b'0',
            10..13 => b'5',
            13..15 => b'2',
            15 => b'1',
            16 => b"3467"[self.random.below(4) as usize],
            _ if format == Format::V7 => 0,
            _ => b'0',
        };
        if self.is_odd() {
            let unknown = self.random.chance(1, 24);
            let flags: &[u8] = if unknown { b"DVMNXAIEZ?\xff\x01" } else { b"01234567\0" };
            flag = flags[self.random.below(flags.len() as u64) as usize];
        }
        if format == Format::Gnu && self.random.chance(1, 12) {
            return self.old_sparse();
        }
        if format == Format::Pax && self.random.chance(1, 10) {
            return self.pax_sparse();
        }
        let is_file = matches!(flag, b'0' | b'7' | 0);
        let mut size = if is_file { self.size() } else { 0 };
        if !is_file && self.is_odd() {
            size = self.size();
        }
        let long = format != Format::V7 && self.random.chance(1, 6);
        let mut name = self.path(long);
        if flag == b'5' && self.random.chance(4, 5) || flag == 0 && self.random.chance(1, 5) {
            name.push(b'/');
            if flag == 0 && !self.is_odd() {
                size = 0;
            }
        }
        let is_link = matches!(flag, b'1' | b'2');
        let long_link = is_link && long && self.random.chance(1, 3);
        let link = if is_link || self.is_odd() { self.path(long_link) } else { Vec::new() };
        let mut block = self.block(format, flag, &name, &link, size);
        let mut records = Records::default();
        let mut extensions: Vec<(u8, Vec<u8>)> = Vec::new();
        match format {
            Format::V7 => {}
            Format::Ustar => {
                if name.len() > 100 {
                    let split = name.iter().enumerate().position(|(at, byte)| *byte == b'/' && name.len() - at <= 101);
                    if let Some(split) = split.filter(|split| *split <= 155) {
                        block.prefix = name[..split].to_vec();
                        block.name = name[split + 1..].to_vec();
                    }
                }
            }
            Format::Gnu => {
                if link.len() > 100 || self.is_odd() {
                    extensions.push((b'K', with_nul(&link)));
                }
                if name.len() > 100 || self.is_odd() {
                    extensions.push((b'L', with_nul(&name)));
                }
            }
            Format::Pax => {
                self.records(&mut records, &mut block, &name, &link, size);
            }
        }
        let data_size = if block.size != size && self.random.chance(1, 2) { block.size } else { size };
        if self.is_odd() {
            self.odd_extensions(&mut extensions, &mut records, &name, &link, size);
        }
        if self.is_odd() {
            self.odd_block(&mut block);
        }
        if !records.0.is_empty() {
            let at = self.random.below(extensions.len() as u64 + 1) as usize;
            extensions.insert(at, (b'x', records.0));
        }
        if self.is_odd() && !extensions.is_empty() {
            let mut again = extensions[self.random.below(extensions.len() as u64) as usize].clone();
            if self.random.chance(1, 4) {
                again.1 = Records::one(b"path", b"again");
            }
            extensions.push(again);
        }
        for (flag, content) in extensions {
            self.extension(flag, &content, format);
        }
        self.put(&block);
        // What both readers skip depends on the type; an odd member has its content or not.
        let has_content = is_file || !matches!(flag, b'1'..=b'6') || self.random.chance(1, 2);
        if has_content {
            self.content(if is_file && block.size == size { size } else { data_size });
        }
    }

    fn size(&mut self) -> u64 {
        match self.random.below(6) {
            0 => 0,
            1 => 512 * (1 + self.random.below(3)),
            _ => self.random.below(1500),
        }
    }

    fn content(&mut self, size: u64) {
        let start = self.bytes.len();
        let seed = self.random.number() as u8;
        self.bytes.extend((0..size.min(1 << 16)).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)));
        let padded = (self.bytes.len() - start).next_multiple_of(512);
        self.bytes.resize(start + padded, 0);
    }

    fn block(&mut self, format: Format, flag: u8, name: &[u8], link: &[u8], size: u64) -> Block {
        Block {
            name: name.to_vec(),
            link: link.to_vec(),
            flag,
            size,
            mode: [0o644, 0o755, 0o4755, 0o1777, 0, 0o100_644][self.random.below(6) as usize],
            uid: [0, 1000, 65_534, 0o7_777_777][self.random.below(4) as usize],
            gid: [0, 1000, 65_534, 0o7_777_777][self.random.below(4) as usize],
            mtime: [0, 1, 1_600_000_000, 1_700_000_000, 0o77_777_777_777][self.random.below(5) as usize],
            device: matches!(flag, b'3' | b'4').then(|| (self.random.below(300), self.random.below(300))),
            prefix: Vec::new(),
            magic: match format {
                Format::V7 => [0; 8],
                Format::Ustar | Format::Pax => USTAR,
                Format::Gnu => GNU,
            },
            over: Vec::new(),
        }
    }

    /// The records that a PAX writer makes, and now and then some that it would not.
    fn records(&mut self, records: &mut Records, block: &mut Block, name: &[u8], link: &[u8], size: u64) {
        if name.len() > 100 || !name.is_ascii() || self.random.chance(1, 8) {
            records.push(b"path", name);
        }
        if link.len() > 100 || !link.is_ascii() {
            records.push(b"linkpath", link);
        }
        if self.random.chance(1, 6) {
            let time: &[&str] = &["1600000000.123456789", "1600000000.5", "12", "-1", "0", "1700000000"];
            let time = self.random.pick(time);
            records.push(b"mtime", time.as_bytes());
        }
        if self.random.chance(1, 8) {
            records.push(b"atime", b"1600000001.25");
            records.push(b"ctime", b"1600000002");
        }
        if self.random.chance(1, 8) {
            let id = [0_u64, 3_000_000, 4_294_967_295][self.random.below(3) as usize];
            records.push(b"uid", format!("{id}").as_bytes());
            records.push(b"gid", format!("{id}").as_bytes());
            block.uid = 0;
        }
        if self.random.chance(1, 8) {
            records.push(b"uname", "jürgen".as_bytes());
        }
        if self.random.chance(1, 8) {
            records.push(b"SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04=\n\0\0\0\0\0\0\0\0\0\0\0\0");
            records.push(b"LIBARCHIVE.xattr.user.a", b"YWJj");
        }
        if self.random.chance(1, 8) {
            records.push(b"size", format!("{size}").as_bytes());
            if self.random.chance(1, 2) {
                block.size = 0;
            }
        }
        if self.random.chance(1, 12) {
            records.push(b"hdrcharset", b"BINARY");
        }
        if self.random.chance(1, 12) {
            records.push(b"comment", b"a = b");
        }
        if self.is_odd() {
            let (key, value) = self.odd_record(size);
            records.push(&key, &value);
        }
        if self.is_odd() && !records.0.is_empty() {
            self.odd_records(&mut records.0);
        }
    }

    fn odd_record(&mut self, size: u64) -> (Vec<u8>, Vec<u8>) {
        let other = size + 512;
        let values: [(&str, Vec<u8>); 34] = [
            ("size", format!("{other}").into_bytes()),
            ("size", b"0".to_vec()),
            ("size", b"-1".to_vec()),
            ("size", b"".to_vec()),
            ("size", b"1e3".to_vec()),
            ("size", format!("0{size}").into_bytes()),
            ("size", b" 12".to_vec()),
            ("size", b"99999999999999999999".to_vec()),
            ("path", if self.random.chance(1, 4) { b"".to_vec() } else { b"./x".to_vec() }),
            ("path", b"a\0b".to_vec()),
            ("path", b"other/name/".to_vec()),
            ("path", b"second".to_vec()),
            ("path", b"\xff\xfe".to_vec()),
            ("linkpath", b"".to_vec()),
            ("linkpath", b"x\0y".to_vec()),
            ("linkpath", b"elsewhere".to_vec()),
            ("mtime", b"1e9".to_vec()),
            ("mtime", b"nan".to_vec()),
            ("mtime", b"-1.5".to_vec()),
            ("mtime", b"99999999999999999999".to_vec()),
            ("mtime", b"5.".to_vec()),
            ("uid", b"-1".to_vec()),
            ("uid", b"4294967296".to_vec()),
            ("uid", b"1_0".to_vec()),
            ("gid", b"+5".to_vec()),
            ("atime", b"never".to_vec()),
            ("GNU.sparse.size", b"1000".to_vec()),
            ("GNU.sparse.name", b"sparse-name".to_vec()),
            ("GNU.volume.label", b"label".to_vec()),
            ("GNU.dumpdir", b"Yx\0".to_vec()),
            ("hdrcharset", b"\xff".to_vec()),
            ("hdrcharset", b"ISO-IR 10646 2000 UTF-8".to_vec()),
            ("VENDOR.key", b"anything\0".to_vec()),
            ("k\0y", b"v".to_vec()),
        ];
        let (key, value) = &values[self.random.below(values.len() as u64) as usize];
        (key.as_bytes().to_vec(), value.clone())
    }

    /// Damages the form of the records.
    fn odd_records(&mut self, bytes: &mut Vec<u8>) {
        match self.random.below(9) {
            0 => bytes[0] = b'0' + self.random.below(10) as u8,
            1 => bytes.insert(0, b' '),
            2 => bytes.insert(0, b'0'),
            3 => {
                bytes.pop();
            }
            4 => bytes.extend(b"garbage"),
            5 => bytes.extend([0; 7]),
            6 => bytes.extend(b"\0\x38 path=z\n"),
            7 => bytes.extend(b"9999 path=x\n"),
            _ => bytes.extend(b"0 path=x\n"),
        }
    }

    fn odd_extensions(
        &mut self,
        extensions: &mut Vec<(u8, Vec<u8>)>,
        records: &mut Records,
        name: &[u8],
        link: &[u8],
        size: u64,
    ) {
        match self.random.below(10) {
            0 => extensions.push((b'L', with_nul(b"long/name"))),
            1 => extensions.push((b'K', with_nul(b"long/link"))),
            2 => extensions.push((b'L', b"no-nul".to_vec())),
            3 if self.random.chance(1, 4) => extensions.push((b'L', Vec::new())),
            4 => records.push(b"path", b"pax/name"),
            5 => records.push(b"size", format!("{size}").as_bytes()),
            6 if self.random.chance(1, 3) => extensions.push((b'g', Records::one(b"path", name))),
            7 => extensions.push((b'g', Records::one(b"mtime", b"77"))),
            8 if self.random.chance(1, 4) => extensions.push((b'X', Records::one(b"path", link))),
            _ => {
                let (key, value) = self.odd_record(size);
                records.push(&key, &value);
            }
        }
    }

    fn global(&mut self) {
        let mut records = Records::default();
        records.push(b"comment", b"0123456789012345678901234567890123456789");
        if self.random.chance(1, 4) {
            records.push(b"mtime", b"1500000000");
        }
        if self.is_odd() && self.random.chance(1, 2) {
            let (key, value) = self.odd_record(100);
            records.push(&key, &value);
        }
        self.extension(b'g', &records.0, Format::Pax);
        if self.is_odd() {
            self.extension(b'g', &Records::one(b"uid", b"7"), Format::Pax);
        }
    }

    fn extension(&mut self, flag: u8, content: &[u8], format: Format) {
        let name: &[u8] = match flag {
            b'L' | b'K' => b"././@LongLink",
            b'g' => b"pax_global_header",
            _ => b"./PaxHeaders/x",
        };
        let mut block = self.block(format, flag, name, b"", content.len() as u64);
        block.mode = 0o644;
        if self.is_odd() && self.random.chance(1, 3) {
            self.odd_block(&mut block);
        }
        self.put(&block);
        let start = self.bytes.len();
        self.bytes.extend(content);
        let fill = if self.odd > 0 && self.random.chance(1, self.odd * 24) { b'9' } else { 0 };
        let padded = content.len().next_multiple_of(512);
        self.bytes.resize(start + padded, fill);
    }

    fn odd_block(&mut self, block: &mut Block) {
        match self.random.below(16) {
            0..7 => {
                let (at, width) = [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)]
                    [self.random.below(7) as usize];
                let value = self.odd_number(width, block.size);
                block.over.push((at, value));
            }
            7 => block.magic = [USTAR, GNU, [0; 8], *b"ustar  1", *b"ustar\0\0\0"][self.random.below(5) as usize],
            8 => block.prefix = self.path(false),
            9 => block.prefix = vec![b'p'; 155],
            10 => block.name = vec![b'n'; 100],
            11 if self.random.chance(1, 6) => block.name.clear(),
            12 => block.over.push((self.random.below(512) as usize, vec![self.random.number() as u8])),
            13 => block.over.push((265, b"root\0garbage\xff".to_vec())),
            14 => block.over.push((475, b"\x0012345670123 12345670123 ".to_vec())),
            _ => block.size = self.size(),
        }
    }

    /// A number field as some program may have written it, or none.
    fn odd_number(&mut self, width: usize, value: u64) -> Vec<u8> {
        let digits = format!("{value:o}");
        let filled = |text: &str, fill: u8| {
            let mut field = text.as_bytes().to_vec();
            field.resize(width, fill);
            field
        };
        let base_256 = |first: u8, value: u64| {
            let mut field = vec![if first == 0xff { 0xff } else { 0 }; width];
            field[0] = first;
            let bytes = value.to_be_bytes();
            let length = (width - 1).min(8);
            field[width - length..].copy_from_slice(&bytes[8 - length..]);
            field
        };
        match self.random.below(22) {
            0 => filled(&digits, b' '),
            1 => filled(&format!("{digits} "), 0),
            2 => filled(&format!("  {digits}"), 0),
            3 => filled(&format!("{value:0width$o}"), 0),
            4 => base_256(0x80, value),
            5 => base_256(0x80, 1 << 40),
            6 => base_256(0xff, u64::MAX),
            7 => base_256(0xff, u64::MAX - 1_000_000),
            8 => base_256(0x81, value),
            9 => vec![b' '; width],
            10 => vec![0; width],
            11 => filled(&format!("\0{digits}"), 0),
            12 => filled(&format!("{digits}\0junk"), 0),
            13 => filled(&format!("{digits} 7"), 0),
            14 => filled(&format!("{digits}x"), 0),
            15 => filled("0o12", 0),
            16 => filled("1_0", 0),
            17 => filled("+12", 0),
            18 => filled("-12", 0),
            19 => filled(&format!("\t{digits}\n"), 0),
            20 => filled("19", 0),
            _ => filled("   ", 0),
        }
    }

    fn put(&mut self, block: &Block) {
        let mut bytes = block.bytes();
        let style = self.random.below(6);
        let odd = self.is_odd();
        self.headers.push(self.bytes.len());
        set_checksum(&mut bytes, style, odd.then(|| self.random.below(6)));
        self.bytes.extend(bytes);
    }

    fn old_sparse(&mut self) {
        let count = if self.random.chance(1, 4) { 5 + self.random.below(25) } else { 1 + self.random.below(4) };
        let mut pieces: Vec<(u64, u64)> = (0..count).map(|at| (at * 4096, 512)).collect();
        let last = count * 4096;
        pieces.push((last, 0));
        let mut real = last;
        if self.is_odd() {
            real = self.random.below(last + 1);
        }
        let name = self.path(false);
        let mut block = self.block(Format::Gnu, b'S', &name, b"", count * 512);
        if self.is_odd() {
            block.magic = [USTAR, [0; 8]][self.random.below(2) as usize];
        }
        let map = |pieces: &[(u64, u64)]| {
            pieces.iter().flat_map(|(at, length)| [octal(*at, 12, true), octal(*length, 12, true)]).flatten().collect()
        };
        let (own, mut rest) = pieces.split_at(pieces.len().min(4));
        block.over.push((386, map(own)));
        let extended = !rest.is_empty() || self.is_odd();
        block.over.push((482, vec![u8::from(extended)]));
        block.over.push((483, octal(real, 12, true)));
        if self.is_odd() {
            self.odd_block(&mut block);
        }
        self.put(&block);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(21));
            let mut bytes: Vec<u8> = map(now);
            bytes.resize(512, 0);
            bytes[504] = u8::from(!later.is_empty());
            if self.is_odd() {
                let at = self.random.below(512) as usize;
                bytes[at] = self.random.number() as u8;
            }
            self.bytes.extend(bytes);
            rest = later;
        }
        self.content(count * 512);
    }

    fn pax_sparse(&mut self) {
        let count = 1 + self.random.below(5);
        let pieces: Vec<(u64, u64)> = (0..count).map(|at| (at * 4096, 512)).collect();
        let real = count * 4096;
        let name = self.path(false);
        let mut records = Records::default();
        let mut map = Vec::new();
        let number = |value: u64| format!("{value}").into_bytes();
        let version = self.random.below(3);
        let blocks = if self.is_odd() { self.random.below(6) } else { count };
        match version {
            0 => {
                records.push(b"GNU.sparse.size", &number(real));
                records.push(b"GNU.sparse.numblocks", &number(blocks));
                for (at, length) in &pieces {
                    records.push(b"GNU.sparse.offset", &number(*at));
                    records.push(b"GNU.sparse.numbytes", &number(*length));
                }
            }
            1 => {
                records.push(b"GNU.sparse.size", &number(real));
                records.push(b"GNU.sparse.numblocks", &number(blocks));
                records.push(b"GNU.sparse.name", &name);
                let text: Vec<String> = pieces.iter().map(|(at, length)| format!("{at},{length}")).collect();
                records.push(b"GNU.sparse.map", text.join(",").as_bytes());
            }
            _ => {
                records.push(b"GNU.sparse.major", b"1");
                records.push(b"GNU.sparse.minor", b"0");
                records.push(b"GNU.sparse.name", &name);
                records.push(b"GNU.sparse.realsize", &number(real));
                map.extend(format!("{blocks}\n").into_bytes());
                for (at, length) in &pieces {
                    map.extend(format!("{at}\n{length}\n").into_bytes());
                }
                if self.is_odd() {
                    let at = self.random.below(map.len() as u64) as usize;
                    map[at] = self.random.number() as u8;
                }
                map.resize(map.len().next_multiple_of(512), 0);
            }
        }
        if self.is_odd() {
            let (key, value) = self.odd_record(0);
            records.push(&key, &value);
        }
        self.extension(b'x', &records.0, Format::Pax);
        let stored = map.len() as u64 + count * 512;
        let own_name = if version == 0 { name } else { b"./GNUSparseFile.1/x".to_vec() };
        let mut block = self.block(Format::Pax, b'0', &own_name, b"", stored);
        if self.is_odd() {
            self.odd_block(&mut block);
        }
        self.put(&block);
        self.bytes.extend(map);
        self.content(count * 512);
    }

    /// Changes bytes of a finished archive; usually the checksums are put right again.
    fn mutate(&mut self) {
        if self.headers.is_empty() {
            return;
        }
        for _ in 0..1 + self.random.below(3) {
            if self.bytes.is_empty() {
                return;
            }
            let length = self.bytes.len();
            // What lies behind the last header's content is zeros, where little can be damaged.
            let used = self.bytes.iter().rposition(|byte| *byte != 0).map_or(length, |last| last + 1);
            let at = self.random.below(used as u64) as usize;
            let block = at / 512 * 512;
            let cut = self.random.chance(1, 5) || self.headers.is_empty();
            let header = match self.headers.len() {
                0 => block,
                count => self.headers[self.random.below(count as u64) as usize],
            };
            match if cut { 6 + self.random.below(4) } else { 0 } {
                0 => {
                    let Some(bytes) = self.bytes.get_mut(header..header + 512) else { continue };
                    let within = self.random.below(512) as usize;
                    bytes[within] = match self.random.below(5) {
                        0 => 0,
                        1 => b' ',
                        2 => b'0' + self.random.below(8) as u8,
                        3 => bytes[within] ^ (1 << self.random.below(8)),
                        _ => self.random.number() as u8,
                    };
                    if self.random.chance(9, 10) {
                        let style = self.random.below(6);
                        set_checksum(bytes.try_into().unwrap(), style, None);
                    }
                }
                6 => self.bytes[at] = self.random.number() as u8,
                7 => {
                    if length >= block + 512 {
                        self.bytes.drain(block..block + 512);
                        self.headers.clear();
                    }
                }
                8 => {
                    let copy: Vec<u8> = self.bytes[block..(block + 512).min(length)].to_vec();
                    let to = (self.random.below(used as u64) as usize) / 512 * 512;
                    self.bytes.splice(to..to, copy);
                    self.headers.clear();
                }
                _ => {
                    let to = if self.random.chance(1, 2) { at } else { block };
                    self.bytes.truncate(to);
                    self.headers.clear();
                }
            }
        }
    }
}
