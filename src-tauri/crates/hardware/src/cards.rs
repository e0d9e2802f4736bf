//! NVIDIA's cards: which of them this process may use, which one runs are computed on, and why none is where none can be.

use schemars::JsonSchema;
use serde::Serialize;

use crate::gpu;

/// The oldest driver that the engine for cards works with: the first for CUDA 13.0.
const OLDEST_DRIVER: u32 = 580;
/// The lowest compute capability that it is built for.
const LOWEST_CAPABILITY: (u32, u32) = (7, 5);
/// With less memory free than this, nothing worth computing fits: CUDA and the kernels take half of it.
const LEAST_FREE: u64 = 1_000_000_000;
/// What the names of our own programs begin with.
const OURS: &str = "modelforge";
/// From this compute capability on, cards multiply bf16.
const BF16_CAPABILITY: (u32, u32) = (8, 0);
/// What CUDA programs are told of the cards they may use by.
pub const VISIBLE_VARIABLE: &str = "CUDA_VISIBLE_DEVICES";

/// A card, or a part of one that counts as a card (MIG). What its driver does not tell is null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Card {
    /// Its number, in the order of the PCI bus; null for further parts of a card.
    pub index: Option<u32>,
    /// What it is named by, on any computer and after any change of cards.
    pub uuid: String,
    /// As the driver names it.
    pub name: String,
    /// All of its memory.
    pub memory_total_bytes: Option<u64>,
    /// The part that no program uses.
    pub memory_free_bytes: Option<u64>,
    /// Its compute capability, such as `8.9`.
    pub compute_capability: Option<String>,
    /// Programs that compute on it.
    pub processes: Option<Vec<CardProcess>>,
    /// Why runs are not computed on it; null where they can be.
    pub problem: Option<String>,
    /// The same as numbers.
    #[serde(skip)]
    pub capability: Option<(u32, u32)>,
}

/// A program that computes on a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CardProcess {
    /// Its process id.
    pub pid: u32,
    /// Its name; null where this user may not know.
    pub name: Option<String>,
    /// The card's memory that it uses; null where the system does not tell.
    pub memory_bytes: Option<u64>,
}

/// What the driver tells of its cards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub driver_version: Option<String>,
    pub cuda_version: Option<String>,
    /// In the order of the PCI bus.
    pub cards: Vec<Card>,
}

/// Where runs are to be computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Choice {
    /// On the visible card with the most free memory.
    #[default]
    Automatic,
    /// On the processor.
    Processor,
    /// On the card with this UUID.
    Card(String),
}

impl Choice {
    /// The choice as settings have it: `auto`, `cpu`, or a card's UUID.
    pub fn of(setting: &str) -> Self {
        match setting {
            "auto" => Choice::Automatic,
            "cpu" => Choice::Processor,
            uuid => Choice::Card(uuid.to_owned()),
        }
    }
}

/// Why no card can be computed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCard {
    /// The library that comes with the driver is not there.
    #[error("there is no NVIDIA driver")]
    NoDriver,
    /// The driver does not work.
    #[error("the NVIDIA driver does not answer: {0}")]
    Silent(String),
    /// The engine's CUDA is newer than the driver.
    #[error("the NVIDIA driver is version {0}, and {OLDEST_DRIVER} or later is needed")]
    OldDriver(String),
    /// The driver has no card.
    #[error("the NVIDIA driver finds no card")]
    None,
    /// All are hidden from this process.
    #[error("{VISIBLE_VARIABLE} is \"{0}\", which leaves no card to use")]
    Hidden(String),
    /// The card that was chosen is not among those that can be used.
    #[error("the card chosen in the settings is not in this computer, or {VISIBLE_VARIABLE} hides it ({0})")]
    Gone(String),
    /// Each card that there is to choose from is too old.
    #[error("{0}")]
    OldCard(String),
    /// Other programs have left no memory of any card that could be taken.
    #[error("the {name} has {:.1} GB of memory free, too little to compute with", *.free as f64 / 1e9)]
    Full {
        /// The card with the most.
        name: String,
        /// Bytes.
        free: u64,
    },
}

/// The cards of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cards {
    /// The driver's version.
    pub driver_version: Option<String>,
    /// The newest CUDA version that the driver supports.
    pub cuda_version: Option<String>,
    /// Those that this process may use, in the order in which it sees them.
    pub visible: Vec<Card>,
    /// Why none can be computed on, whichever is chosen.
    pub problem: Option<NoCard>,
}

/// Asks the driver which cards there are.
pub fn cards() -> Cards {
    let variable = std::env::var_os(VISIBLE_VARIABLE);
    let variable = variable.as_ref().map(|value| value.to_string_lossy());
    seen(gpu::listing(), variable.as_deref())
}

/// The card that runs are computed on now; none where the processor was chosen.
///
/// # Errors
/// No card can be computed on, or not the one that was chosen.
pub fn card(choice: &Choice) -> Result<Option<Card>, NoCard> {
    if *choice == Choice::Processor { Ok(None) } else { cards().choose(choice) }
}

/// What this process, told `variable`, sees of the cards.
fn seen(listing: Result<Listing, NoCard>, variable: Option<&str>) -> Cards {
    let Listing { driver_version, cuda_version, mut cards } = match listing {
        Ok(listing) => listing,
        Err(problem) => {
            let problem = Some(problem);
            return Cards { driver_version: None, cuda_version: None, visible: Vec::new(), problem };
        }
    };
    for card in &mut cards {
        card.problem = too_old(card);
    }
    let problem = match &driver_version {
        Some(version) if is_old(version) => Some(NoCard::OldDriver(version.clone())),
        _ if cards.is_empty() => Some(NoCard::None),
        _ => None,
    };
    let visible: Vec<Card> = match variable {
        None => cards,
        Some(variable) => places(variable, &cards).into_iter().map(|place| cards[place].clone()).collect(),
    };
    let hidden = || visible.is_empty().then(|| NoCard::Hidden(variable.unwrap_or_default().to_owned()));
    let old = || {
        let mut problems = visible.iter().map(|card| card.problem.as_ref());
        // A word on the first stands for all.
        problems.all(|problem| problem.is_some()).then(|| NoCard::OldCard(first_problem(&visible)))
    };
    let problem = problem.or_else(hidden).or_else(old);
    Cards { driver_version, cuda_version, visible, problem }
}

impl Cards {
    /// The card that a choice comes to.
    ///
    /// # Errors
    /// As for [`card`].
    pub fn choose(&self, choice: &Choice) -> Result<Option<Card>, NoCard> {
        let wanted = match choice {
            Choice::Processor => return Ok(None),
            _ if self.problem.is_some() => return self.problem.clone().map_or(Ok(None), Err),
            Choice::Automatic => {
                let usable = self.visible.iter().filter(|card| card.problem.is_none());
                // Of several with as much the first.
                let freest =
                    usable.reduce(|a, b| if b.memory_free_bytes > a.memory_free_bytes { b } else { a });
                return match freest {
                    None => Err(NoCard::None),
                    Some(card) => card.left().map_or_else(|| Ok(Some(card.clone())), Err),
                };
            }
            Choice::Card(uuid) => uuid,
        };
        let found = self.visible.iter().find(|card| card.uuid == *wanted);
        match found {
            None => Err(NoCard::Gone(wanted.clone())),
            Some(Card { problem: Some(problem), .. }) => Err(NoCard::OldCard(problem.clone())),
            Some(card) => Ok(Some(card.clone())),
        }
    }
}

impl Card {
    /// Why it is left alone where nobody chose it. What our own programs use is free again when they are done.
    fn left(&self) -> Option<NoCard> {
        let free = self.memory_free_bytes.filter(|free| *free < LEAST_FREE)?;
        let mut names = self.processes.iter().flatten().filter_map(|process| process.name.as_ref());
        let ours = names.any(|name| name.starts_with(OURS));
        (!ours).then(|| NoCard::Full { name: self.name.clone(), free })
    }

    /// Whether it multiplies bf16.
    pub fn multiplies_bf16(&self) -> bool {
        self.capability.is_some_and(|own| own >= BF16_CAPABILITY)
    }
}

/// Whether a driver is too old; one whose version has another form is left to the engine to try.
fn is_old(version: &str) -> bool {
    let major = version.split('.').next().unwrap_or_default();
    major.trim().parse::<u32>().is_ok_and(|major| major < OLDEST_DRIVER)
}

fn too_old(card: &Card) -> Option<String> {
    let (major, minor) = card.capability.filter(|own| *own < LOWEST_CAPABILITY)?;
    let (lowest, least) = LOWEST_CAPABILITY;
    let name = &card.name;
    Some(format!(
        "the {name} has compute capability {major}.{minor}, and {lowest}.{least} or later is needed"
    ))
}

fn first_problem(cards: &[Card]) -> String {
    cards.iter().find_map(|card| card.problem.clone()).unwrap_or_default()
}

/// The cards that a value of [`VISIBLE_VARIABLE`] names, as CUDA reads it: numbers and UUIDs, which may be cut short, up to the first that
/// names none. One that stands twice makes the whole list void.
fn places(variable: &str, cards: &[Card]) -> Vec<usize> {
    let mut found = Vec::new();
    for entry in variable.split(',') {
        match place(entry.trim(), cards) {
            Some(place) if found.contains(&place) => return Vec::new(),
            Some(place) => found.push(place),
            None => break,
        }
    }
    found
}

fn place(entry: &str, cards: &[Card]) -> Option<usize> {
    if entry.starts_with("GPU-") || entry.starts_with("MIG-") {
        let mut named = (0..cards.len()).filter(|&place| cards[place].uuid.starts_with(entry));
        let place = named.next()?;
        return named.next().is_none().then_some(place);
    }
    // What stands behind the digits of a number is not looked at.
    let end = entry.find(|c: char| !c.is_ascii_digit()).unwrap_or(entry.len());
    let number: u32 = entry[..end].parse().ok()?;
    cards.iter().position(|card| card.index == Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn card(index: u32, uuid: &str, capability: (u32, u32), free: u64) -> Card {
        Card {
            index: Some(index),
            uuid: uuid.into(),
            name: format!("NVIDIA {index}"),
            memory_total_bytes: Some(24 * GB),
            memory_free_bytes: Some(free * GB),
            capability: Some(capability),
            ..Card::default()
        }
    }

    fn listing() -> Listing {
        Listing {
            driver_version: Some("580.82.07".into()),
            cuda_version: Some("13.0".into()),
            cards: vec![
                card(0, "GPU-aa11", (8, 9), 4),
                card(1, "GPU-aa22", (7, 5), 20),
                card(2, "GPU-bb33", (6, 1), 23),
            ],
        }
    }

    fn numbers(variable: Option<&str>) -> Vec<u32> {
        seen(Ok(listing()), variable).visible.iter().filter_map(|card| card.index).collect()
    }

    #[test]
    fn the_variable_is_read_as_cuda_reads_it() {
        assert_eq!(numbers(None), [0, 1, 2], "without it all are visible");
        for (variable, want) in [
            ("0,1,2", &[0, 1, 2][..]),
            ("2,0", &[2, 0]),
            (" 1 , 2 ", &[1, 2]),
            ("1", &[1]),
            ("1abc", &[1]),
            ("", &[]),
            ("-1", &[]),
            ("none", &[]),
            ("0,-1,1", &[0]),
            ("1,7,0", &[1]),
            ("0,,1", &[0]),
            ("0,0", &[]),
            ("1,2,1", &[]),
            ("99999999999999999999", &[]),
            ("GPU-bb33", &[2]),
            ("GPU-b", &[2]),
            ("GPU-aa", &[]),
            ("GPU-aa22,GPU-aa1", &[1, 0]),
            ("GPU-aa22,1", &[]),
            ("GPU-aa22,GPU-cc,GPU-aa11", &[1]),
            ("gpu-aa11", &[]),
        ] {
            assert_eq!(numbers(Some(variable)), want, "{variable:?}");
        }
    }

    #[test]
    fn parts_of_a_card_are_named_by_uuid_and_the_first_by_number() {
        let mut listing = listing();
        listing.cards[1].uuid = "MIG-1".into();
        let second = Card { index: None, ..card(1, "MIG-2", (9, 0), 9) };
        listing.cards.insert(2, second);
        let uuids = |variable: &str| {
            let seen = seen(Ok(listing.clone()), Some(variable));
            seen.visible.into_iter().map(|card| card.uuid).collect::<Vec<_>>()
        };
        assert_eq!(uuids("1,2"), ["MIG-1", "GPU-bb33"]);
        assert_eq!(uuids("MIG-2"), ["MIG-2"]);
    }

    #[test]
    fn the_card_with_the_most_free_memory_is_taken_unless_one_is_chosen() {
        let chosen = |variable: Option<&str>, setting: &str| {
            let card = seen(Ok(listing()), variable).choose(&Choice::of(setting));
            card.map(|card| card.and_then(|card| card.index))
        };
        assert_eq!(chosen(None, "auto"), Ok(Some(1)), "the one with 23 GB is too old");
        assert_eq!(chosen(Some("0,2"), "auto"), Ok(Some(0)));
        assert_eq!(chosen(None, "GPU-aa11"), Ok(Some(0)), "less memory, but chosen");
        assert_eq!(chosen(None, "cpu"), Ok(None));
        assert_eq!(chosen(Some("-1"), "cpu"), Ok(None), "the processor can always be chosen");
        assert_eq!(chosen(None, "GPU-gone"), Err(NoCard::Gone("GPU-gone".into())));
        assert_eq!(chosen(Some("1"), "GPU-aa11"), Err(NoCard::Gone("GPU-aa11".into())), "it is hidden");
        assert!(matches!(chosen(None, "GPU-bb33"), Err(NoCard::OldCard(_))));
        let mut untold = listing();
        untold.cards.truncate(2);
        untold.cards.iter_mut().for_each(|card| card.memory_free_bytes = None);
        let card = seen(Ok(untold), None).choose(&Choice::Automatic).unwrap().unwrap();
        assert_eq!(card.index, Some(0), "where the driver does not tell, the first");
    }

    #[test]
    fn a_full_card_is_left_alone_unless_it_is_chosen_or_full_of_our_own() {
        let chosen = |setting: &str, program: &str| {
            let mut listing = listing();
            listing.cards.truncate(2);
            for card in &mut listing.cards {
                card.memory_free_bytes = Some(400_000_000);
                let memory_bytes = Some(20 * GB);
                card.processes = Some(vec![CardProcess { pid: 1, name: Some(program.into()), memory_bytes }]);
            }
            seen(Ok(listing), None).choose(&Choice::of(setting))
        };
        let why = chosen("auto", "a game").unwrap_err().to_string();
        assert_eq!(why, "the NVIDIA 0 has 0.4 GB of memory free, too little to compute with");
        assert!(chosen("GPU-aa11", "a game").unwrap().is_some());
        assert!(
            chosen("auto", "modelforge-engine-cuda").unwrap().is_some(),
            "it is free when the run is done"
        );
    }

    #[test]
    fn why_no_card_can_be_computed_on_is_told() {
        let why = |listing: Result<Listing, NoCard>, variable: Option<&str>| {
            let cards = seen(listing, variable);
            assert_eq!(cards.choose(&Choice::Automatic).err(), cards.problem, "the choice says the same");
            cards.problem.map(|problem| problem.to_string())
        };
        assert_eq!(why(Ok(listing()), None), None);
        assert_eq!(why(Err(NoCard::NoDriver), None).unwrap(), "there is no NVIDIA driver");
        let old = Listing { driver_version: Some("535.104.05".into()), ..listing() };
        assert_eq!(
            why(Ok(old), None).unwrap(),
            "the NVIDIA driver is version 535.104.05, and 580 or later is needed"
        );
        let unknown = Listing { driver_version: Some("rel-next".into()), ..listing() };
        assert_eq!(why(Ok(unknown), None), None, "the engine may try");
        let none = Listing { cards: Vec::new(), ..listing() };
        assert_eq!(why(Ok(none), Some("-1")).unwrap(), "the NVIDIA driver finds no card");
        assert_eq!(
            why(Ok(listing()), Some("-1")).unwrap(),
            "CUDA_VISIBLE_DEVICES is \"-1\", which leaves no card to use"
        );
        assert_eq!(
            why(Ok(listing()), Some("2")).unwrap(),
            "the NVIDIA 2 has compute capability 6.1, and 7.5 or later is needed"
        );
    }

    #[test]
    fn bf16_is_multiplied_from_ampere_on() {
        let multiplies = listing().cards.into_iter().map(|card| card.multiplies_bf16());
        assert_eq!(multiplies.collect::<Vec<_>>(), [true, false, false]);
    }
}
