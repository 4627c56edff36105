//! Names of tiles and entry bundles (C2SP tlog-tiles).

use std::fmt::Write as _;

/// Hashes of a full tile, and entries of a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Highest level of tiles that a name can have.
const LEVEL_MAX: u8 = 63;
/// Largest number of a tile that is read from a name: far more than there can be.
const INDEX_MAX: u64 = 1 << 56;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Hashes of a level.
    Hash(u8),
    /// Entries.
    Entries,
}

/// A tile or an entry bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Of what.
    pub level: Level,
    /// Its number on its level, from 0.
    pub index: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

/// The path is not the canonical name of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct TileError;

impl Tile {
    /// The tile that holds a hash of a level in a tree of `size` leaves, as wide as it is there. A hash that the tree
    /// does not have is in none; its tile is given as full.
    #[must_use]
    pub fn holding(level: u8, index: u64, size: u64) -> Tile {
        let nodes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        let tile = index / u64::from(TILE_WIDTH);
        let rest = nodes.saturating_sub(tile * u64::from(TILE_WIDTH));
        let width = if rest == 0 { TILE_WIDTH } else { width_of(rest) };
        Tile { level: Level::Hash(level), index: tile, width }
    }

    /// Its path below the log's folder, such as `tile/0/x001/234` or `tile/entries/000.p/7`.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = match self.level {
            Level::Hash(level) => format!("tile/{level}/"),
            Level::Entries => "tile/entries/".to_owned(),
        };
        let mut groups = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (left, group) in groups.iter().enumerate().rev() {
            // Writing to a string does not fail.
            let _ = if left > 0 { write!(path, "x{group:03}/") } else { write!(path, "{group:03}") };
        }
        if self.width < TILE_WIDTH {
            let _ = write!(path, ".p/{}", self.width);
        }
        path
    }

    /// Reads a path as [`Tile::path`] writes it.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(path: &str) -> Result<Self, TileError> {
        let rest = path.strip_prefix("tile/").ok_or(TileError)?;
        let (level, rest) = rest.split_once('/').ok_or(TileError)?;
        let level = match level {
            "entries" => Level::Entries,
            number => Level::Hash(number.parse().ok().filter(|level| *level <= LEVEL_MAX).ok_or(TileError)?),
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| TileError)?),
            None => (rest, TILE_WIDTH),
        };
        let mut index = 0u64;
        for group in number.split('/') {
            let digits = group.strip_prefix('x').unwrap_or(group);
            let group: u64 = digits.parse().map_err(|_| TileError)?;
            index = index * 1000 + group;
            if index > INDEX_MAX || group > 999 {
                return Err(TileError);
            }
        }
        let tile = Tile { level, index, width };
        if width == 0 || width > TILE_WIDTH || tile.path() != path { Err(TileError) } else { Ok(tile) }
    }
}

fn width_of(rest: u64) -> u16 {
    u16::try_from(rest).unwrap_or(TILE_WIDTH).min(TILE_WIDTH)
}

/// The tiles and bundles that must be written when the tree grows from `old` to `new` leaves: new full ones, and the
/// partial one at the end of each level. Bundles first.
#[must_use]
pub fn tiles_between(old: u64, new: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    if new <= old {
        return tiles;
    }
    grown(Level::Entries, old, new, &mut tiles);
    let (mut from, mut to) = (old, new);
    for level in 0..=LEVEL_MAX {
        if to == 0 {
            break;
        }
        grown(Level::Hash(level), from, to, &mut tiles);
        from /= u64::from(TILE_WIDTH);
        to /= u64::from(TILE_WIDTH);
    }
    tiles
}

fn grown(level: Level, from: u64, to: u64, tiles: &mut Vec<Tile>) {
    if from == to {
        return;
    }
    let width = u64::from(TILE_WIDTH);
    for index in from / width..to.div_ceil(width) {
        tiles.push(Tile { level, index, width: width_of(to - index * width) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |level, index, width| Tile { level, index, width };
        for (tile, path) in [
            (tile(Level::Hash(0), 0, 256), "tile/0/000"),
            (tile(Level::Hash(0), 1_234_067, 256), "tile/0/x001/x234/067"),
            (tile(Level::Hash(2), 5, 7), "tile/2/005.p/7"),
            (tile(Level::Entries, 1000, 255), "tile/entries/x001/000.p/255"),
        ] {
            assert_eq!(tile.path(), path);
            assert_eq!(Tile::parse(path), Ok(tile));
        }
        for bad in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/0/001/002",
            "tile/0/x000/001",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/257",
            "tile/0/000.p/07",
            "tile/0/000.p/",
            "tile/0/+01",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/../000",
            "tile/entries/x",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(Tile::parse(bad), Err(TileError), "{bad}");
        }
    }

    #[test]
    fn paths_and_new_tiles_agree_with_another_implementation() {
        for index in [0, 1, 999, 1000, 1_234_567, 999_999_999] {
            for width in [1u16, 255, 256] {
                let ours = Tile { level: Level::Hash(3), index, width };
                let theirs = tlog_tiles::Tile::new(8, 3, index, u32::from(width), false);
                // There the height of the tiles is part of the path.
                assert_eq!(ours.path().replacen("tile/", "tile/8/", 1), theirs.path());
            }
        }
        for (old, new) in
            [(0, 1), (0, 256), (0, 257), (255, 256), (256, 600), (1, 70_000), (65_535, 65_537), (9, 9)]
        {
            let mut ours: Vec<String> = tiles_between(old, new)
                .into_iter()
                .filter(|tile| tile.level != Level::Entries)
                .map(|tile| tile.path().replacen("tile/", "tile/8/", 1))
                .collect();
            let mut theirs: Vec<String> =
                tlog_tiles::Tile::new_tiles(8, old, new).iter().map(tlog_tiles::Tile::path).collect();
            ours.sort();
            theirs.sort();
            assert_eq!(ours, theirs, "{old} to {new}");
            let bundles = tiles_between(old, new).into_iter().filter(|tile| tile.level == Level::Entries);
            assert_eq!(bundles.count() as u64, if old == new { 0 } else { new.div_ceil(256) - old / 256 });
        }
    }

    #[test]
    fn a_hash_is_in_one_tile() {
        assert_eq!(Tile::holding(0, 299, 300), Tile { level: Level::Hash(0), index: 1, width: 44 });
        assert_eq!(Tile::holding(0, 5, 300).width, 256);
        assert_eq!(Tile::holding(1, 0, 300), Tile { level: Level::Hash(1), index: 0, width: 1 });
        assert_eq!(Tile::holding(1, 9, u64::MAX).width, 256);
    }
}
