//! What people at the two sites of the demo write about.

/// The words of one walk of life.
pub(crate) struct Theme {
    /// Titles of tasks are `<verb> <object> <detail>`; within one entry every verb goes with every object.
    pub(crate) tasks: &'static [(&'static [&'static str], &'static [&'static str])],
    /// What people talk about.
    pub(crate) topics: &'static [&'static str],
    pub(crate) details: &'static [&'static str],
    pub(crate) sentences: &'static [&'static str],
    pub(crate) notes: &'static [&'static str],
    pub(crate) memories: &'static [&'static str],
    pub(crate) tags: &'static [&'static str],
}

pub(crate) const PLATFORM: Theme = Theme {
    tasks: &[
        (
            &["Fix", "Profile", "Split", "Benchmark", "Document"],
            &["the connection pool", "the ingest queue", "the session cache", "the retry policy", "the audit pipeline"],
        ),
        (
            &["Migrate", "Harden", "Roll out", "Retire"],
            &["the billing export", "the feature-flag service", "the staging cluster", "the schema registry"],
        ),
        (
            &["Review", "Rehearse", "Automate"],
            &["the nightly backup", "the failover", "the image build", "the key rotation"],
        ),
        (&["Tidy up", "Add latency to", "Put owners on"], &["the on-call dashboard", "the error budget board"]),
    ],
    topics: &["the timeout incident", "sharding by tenant", "the error budget", "who is on call in December"],
    details: &[
        "after the timeout incident",
        "before the quarter ends",
        "for the EU region",
        "behind a flag",
        "so that deploys stop blocking",
        "with the new certificates",
        "on the replica first",
        "without downtime",
        "",
        "",
    ],
    sentences: &[
        "Seen twice this week, both times shortly after a deploy.",
        "The graph shows it starts when the second replica joins.",
        "Agreed in the Tuesday review; Dalia has the numbers.",
        "Roll back if the error rate stays above one percent for five minutes.",
        "Needs a migration that can run while writes continue.",
        "Ask the mobile team whether they still call the old endpoint.",
        "The runbook has a section on this, but it describes the previous setup.",
        "Half a day of work once the access request is through.",
    ],
    notes: &[
        "Post-mortem: queue stalled for 40 minutes",
        "How the retry budget is computed",
        "Capacity plan, next two quarters",
        "Why we do not cache permission checks",
        "Deploy checklist",
        "Meeting notes: platform weekly",
        "Comparison of three message brokers",
        "Access paths of the tenant tables",
    ],
    memories: &[
        "Deploys go out before noon, never on a Friday.",
        "The staging database is restored from production every Sunday night.",
        "Dalia prefers a short written proposal before any meeting.",
        "We decided against sharding by region; tenant id is the key.",
        "The p99 of the export job is dominated by one customer.",
        "Certificates of the internal CA last 24 hours.",
    ],
    tags: &["postgres", "incident", "deploy", "latency", "security", "cost", "runbook"],
};

pub(crate) const PRODUCT: Theme = Theme {
    tasks: &[
        (
            &["Draft", "Test", "Ship", "Rewrite", "Polish"],
            &["the onboarding flow", "the empty state of the inbox", "the search results screen", "the settings menu"],
        ),
        (
            &["Write", "Translate", "Shorten"],
            &["the release notes", "the invite e-mail", "the offline banner", "the pricing page"],
        ),
        (
            &["Measure", "Survey"],
            &["the drop-off after sign-up", "how often people search", "the push permission prompt"],
        ),
        (&["Check", "Improve"], &["the accessibility labels", "the contrast in dark mode", "keyboard navigation"]),
    ],
    topics: &["the spring release", "what offline should mean", "the survey", "three names for a workspace"],
    details: &[
        "with five customers",
        "for the spring release",
        "in German and French",
        "after the survey",
        "so that it fits one screen",
        "for tablets",
        "",
        "",
    ],
    sentences: &[
        "Three of five testers did not find the button.",
        "The copy is too long on small phones.",
        "Design is in the shared folder, second page.",
        "Emre wants to see the funnel before and after.",
        "Blocked until legal has read the new wording.",
        "Nice to have, drop it if the week gets short.",
    ],
    notes: &[
        "Interview with a two-person agency",
        "What people expect from offline mode",
        "Glossary for translators",
        "Ideas for the spring release",
        "Meeting notes: product weekly",
        "Words we avoid in the interface",
    ],
    memories: &[
        "Emre reads proposals on the train; send them before eight.",
        "The survey said: people want fewer notifications, not better ones.",
        "We call it a workspace, never an account.",
        "Screenshots for the store are due two weeks before a release.",
    ],
    tags: &["design", "copy", "research", "release", "a11y", "i18n"],
};

pub(crate) const OFFICE: Theme = Theme {
    tasks: &[
        (&["Collect", "Check", "Approve"], &["the travel receipts", "the invoices of October", "the expense reports"]),
        (&["Order", "Return"], &["the laptop for the new colleague", "the visitor badges", "two monitors"]),
        (
            &["Book", "Confirm"],
            &["a room for the offsite", "the fire-safety training", "the interview panel", "the caterer"],
        ),
        (&["Renew", "Cancel"], &["the contract with the cleaning company", "the insurance", "the parking permit"]),
    ],
    topics: &["the offsite", "the new colleague", "the Lisbon office", "next year's budget"],
    details: &["by Thursday", "for the Lisbon office", "before the audit", "with finance", "for next month", "", ""],
    sentences: &[
        "Fay has the contact.",
        "Needs two signatures.",
        "The old one runs out at the end of the month.",
        "Ask for an invoice with the new address.",
        "Budget is approved.",
    ],
    notes: &[
        "Questions for the system design interview",
        "Offsite: who sleeps where",
        "List of suppliers with contacts",
        "Onboarding plan, first two weeks",
    ],
    memories: &[
        "Chen is allergic to nuts; tell the caterer.",
        "The landlord answers faster by phone.",
        "References are asked for only after the second interview.",
    ],
    tags: &["travel", "hiring", "budget", "office"],
};

pub(crate) const HOUSE: Theme = Theme {
    tasks: &[
        (
            &["Repair", "Replace"],
            &["the dripping kitchen tap", "the washing machine hose", "the hallway lamp", "the bicycle lights"],
        ),
        (&["Clean", "Check"], &["the gutters", "the filter of the ventilation", "the smoke detectors", "the chimney"]),
        (&["Paint", "Insulate"], &["the bathroom window", "the cellar door", "the attic hatch"]),
        (&["Call someone about", "Get a quote for"], &["the boiler", "the damp wall", "the roof"]),
        (&["Sort"], &["the cellar shelves", "the tool box", "the box of cables", "the tax papers"]),
    ],
    topics: &["the boiler", "a bigger table", "the neighbours' party", "solar panels"],
    details: &[
        "before the first frost",
        "while the neighbours are away",
        "with Sam",
        "on Saturday",
        "again",
        "before the guests arrive",
        "",
        "",
    ],
    sentences: &[
        "The seal is 22 mm; the shop by the station has it.",
        "Turn off the water in the cellar first.",
        "The manual is in the drawer under the phone.",
        "Last done in March.",
        "Get a second quote.",
        "Takes an hour if two people do it.",
    ],
    notes: &[
        "Paint colours, room by room",
        "Where the fuses go",
        "Meter readings",
        "Warranty papers and where they are",
        "Packing list for the mountains",
        "Emergency numbers",
    ],
    memories: &[
        "The spare key is with the Okafor family.",
        "The boiler is serviced every September.",
        "Sam does not like cilantro.",
        "The wall behind the sofa hides the water pipe.",
        "Paper is collected every second Wednesday.",
    ],
    tags: &["house", "garden", "shopping", "winter", "papers"],
};

pub(crate) const FAMILY: Theme = Theme {
    tasks: &[
        (
            &["Plan", "Save the date of"],
            &["the summer holiday", "grandmother's birthday", "the school concert", "the football tournament"],
        ),
        (&["Book", "Move"], &["the dentist appointment", "the swimming course", "the eye test"]),
        (
            &["Buy", "Wrap"],
            &["a present for Kim's teacher", "a present for grandmother", "something for the class party"],
        ),
        (&["Sign", "Hand in"], &["the school form", "the club registration", "the passport renewal"]),
        (&["Bake", "Bring"], &["the cake for the class", "cookies for the parents' evening"]),
    ],
    topics: &["the summer holiday", "pocket money", "the parents' evening", "a dog"],
    details: &["with Kim", "before the holidays", "for both children", "on the way home", "this week", "", ""],
    sentences: &[
        "Kim asked twice already.",
        "Two adults, two children, no car.",
        "The form needs a photo from this year.",
        "Ask Sam who can drive.",
        "The deadline is on the fridge.",
    ],
    notes: &[
        "Menu for the birthday",
        "Books the children want",
        "Addresses for the holiday cards",
        "Packing list for the lake",
        "Pocket money, what we agreed",
    ],
    memories: &[
        "Grandmother takes the 10:12 train, never the earlier one.",
        "Kim's teacher is Ms. Laurent, room 12.",
        "The children may watch one film on Fridays.",
        "Shoe size: 33 and 36.",
    ],
    tags: &["school", "holiday", "birthday", "health"],
};

pub(crate) const GARDEN: Theme = Theme {
    tasks: &[
        (&["Prune", "Water", "Cover"], &["the apple tree", "the roses by the gate", "the lavender", "the hedge"]),
        (&["Sow", "Harvest", "Thin out"], &["the tomatoes", "the early potatoes", "the carrots", "the herb bed"]),
        (&["Turn", "Sieve"], &["the compost"]),
        (&["Mend", "Oil"], &["the garden shears", "the wheelbarrow", "the rain barrel tap"]),
    ],
    topics: &["what to sow first", "the seed swap", "the neighbours' fence", "a second compost"],
    details: &["after the rain", "in the evening", "before the frost", "for the swap with the neighbours", "", ""],
    sentences: &[
        "Not in full sun.",
        "The soil was too wet last year.",
        "Seeds are in the blue tin.",
        "Leave two metres to the fence.",
    ],
    notes: &["Planting calendar", "What grew well and what did not", "Seed swap list", "Watering plan for August"],
    memories: &[
        "The tap in the garden freezes first.",
        "Tomatoes next to basil, never next to fennel.",
        "The compost needs two years.",
    ],
    tags: &["garden", "seeds", "spring", "autumn"],
};
