//! Every tuning constant of the join, each once: its unit, its meaning, and where it was fitted.
//!
//! Costs are thousandths of a natural logarithm: 693 makes a pair half as likely, 2,303 a tenth as likely.
//! Probabilities are parts in 1,000, shares parts in 1,000,000, and times microseconds. "Simulation" is
//! `records/tests/truth.rs`; "accuracy" is `pen-bench accuracy`, real web servers with known clients. A
//! constant without a place was chosen by reasoning, which its comment gives.

// Costs and probabilities in general.

/// Cost of one halving: 1,000 ln 2.
pub(crate) const HALVING: i64 = 693;

/// Cost beyond which a candidate has no weight beside the best: 11,000 is one in 60,000.
pub(crate) const NEGLIGIBLE: i64 = 11_000;

/// Highest probability of a guess, in thousandths.
pub(crate) const GUESS_CEILING: u16 = 990;

/// Probability, in thousandths, from which a guess teaches delays, sizes and User-Agents.
pub(crate) const GUESS_TEACHES: u16 = 900;

// One line and one mapping.

/// Cost of status and size together, above which a pair is odd and not certain.
pub(crate) const ODD_RESPONSE: i64 = 1_500;

/// nginx counts its `HTTP/1.1 100 Continue` and the empty line as part of the body: bytes.
pub(crate) const CONTINUE_BYTES: u32 = 25;

// Single-line match: one line of a group by itself.

/// Ports that a balancer has for its connections, of which a random number may be one: what Linux gives out by
/// default.
pub(crate) const PORTS_OF_A_BALANCER: u32 = 28_232;

/// Evidence from which a field is a port: 9,000 is 8,000 to 1.
pub(crate) const PORT_KNOWN: i64 = 9_000;

/// Evidence from which it is enough to judge a line's port when the line is decided.
pub(crate) const PORT_SETTLED: i64 = 12_000;

/// Most and least evidence for a field, so that a change of format is learnt within a few lines.
pub(crate) const PORT_EVIDENCE_MOST: i64 = 15_000;
pub(crate) const PORT_EVIDENCE_LEAST: i64 = -8_000;

/// Evidence against a field whose number is no port of a connection. Another balancer without records may use
/// the server too, so that a field is a port even if most numbers are not found.
pub(crate) const PORT_MISSED: i64 = 1_200;

/// The same for a field that the format names as the port.
pub(crate) const PORT_MISSED_NAMED: i64 = 350;

/// Most fields of a server's lines whose numbers are watched.
pub(crate) const PORT_FIELDS: usize = 32;

/// Microseconds within which a closed connection may still be that of a line, while a field is not known.
pub(crate) const PORT_RECENT: i64 = 20_000_000;

/// Microseconds of the first octave of lateness: how long a line comes after the close of its connection.
pub(crate) const PORT_LATE_UNIT: i64 = 250_000;

/// Lines over which it is learnt whether lines have the requests that records name, and the share without, in parts per
/// million, from which formats log requests in another form. Lines of another balancer have none of the requests, either.
pub(crate) const PORT_REQUESTS_MEMORY: i64 = 16;
pub(crate) const PORT_REQUESTS_STRANGE: i64 = 800_000;

/// Share of lines, in parts per million, that come before the opening of their connections, below which that is rare.
pub(crate) const PORT_EARLY_RARE: i64 = 20_000;

/// Share of lines, in parts per million, whose request is none of all those of their connection, below which that is
/// rare; and the probability, in thousandths, of such a connection: two records may be lost at once. Set by reason.
pub(crate) const PORT_WITHOUT_REQUEST_RARE: i64 = 50_000;
pub(crate) const PORT_WITHOUT_REQUEST_PROBABILITY: u16 = 900;

/// Lines of other balancers, in parts per million of all, that may have the port of a connection by chance without a
/// doubt about lines of the server.
pub(crate) const PORT_CHANCE_TOLERATED: i64 = 10;

/// One line in so many has another response than its exchange, or an odd time. Set by reason.
pub(crate) const PORT_ODD_RARE: i64 = 50;

/// Octaves of lateness.
pub(crate) const PORT_LATE_OCTAVES: usize = 16;

/// Lines from which lateness is known.
pub(crate) const PORT_LATE_KNOWN_AFTER: u32 = 16;

/// Microseconds over which chance finds are spread at most: the usual window. An octave is common only if so many
/// times more lines fall into it than by chance.
pub(crate) const PORT_LATE_SPAN: i64 = 600_000_000;
pub(crate) const PORT_LATE_DENSER: i64 = 4;

/// One line in so many makes an octave of lateness common.
pub(crate) const PORT_LATE_SHARE: u32 = 20;

/// Lines after which older ones count half.
pub(crate) const PORT_LATE_FADE_AT: u32 = 1_024;

/// Lines with one User-Agent and one request, none of them explained by a mapping, after which no mapping is
/// expected for such lines.
pub(crate) const ORPHANS_AFTER: u8 = 8;

/// Classes of such lines that are watched.
pub(crate) const ORPHAN_CLASSES: usize = 256;

/// Kept mappings, of exchanges longer than the window, that are looked at whenever the time moves.
pub(crate) const KEPT_CHECKED: usize = 2;

/// Lines after which the fields of a server's lines are reviewed, at first and behind a new format, and later on.
/// A review groups lines again by all that they have.
pub(crate) const FIELDS_REVIEWED_FIRST: u32 = 32;
pub(crate) const FIELDS_REVIEWED_AFTER: u32 = 1 << 14;

// Ids of requests.

/// So many records with an id for each without show that the balancer makes ids itself: an id that a balancer passes on is
/// there where a client sent one.
pub(crate) const RECORDS_PER_RECORD_WITHOUT_ID: u32 = 10;

/// Lines with the id of a record from which a format is known to log the balancer's ids.
pub(crate) const IDS_FOUND: u32 = 8;

/// Lines whose id no record has, for each whose id a record has, beyond which a format is taken to log ids of another
/// making. A balancer without records gives ids, too; an id of a server's own making equals one of a record hardly ever.
pub(crate) const IDS_MISSED_PER_FOUND: u32 = 20;

/// Lines after which older ones count half.
pub(crate) const IDS_FADE_AT: u32 = 1_024;

/// Probability, in thousandths, of the client whose record has the line's id, where clients may choose ids, or several lines
/// have this one: such lines are copies and requests within a request nearly always. Set by reason.
pub(crate) const ID_PROBABILITY: u16 = 970;

/// Probability at most, in thousandths, of a client found without the id, where lines with ids are in no group: lines of
/// the group may be missing there. Set by reason.
pub(crate) const ID_MISSING_PROBABILITY: u16 = 700;

/// Most sources of a server's lines that are told apart.
pub(crate) const ORIGINS: usize = 64;

/// Most Hosts of a server that are told apart.
pub(crate) const HOSTS: usize = 1_024;

/// Certain pairs from which a Host, or a log, is known.
pub(crate) const HOST_KNOWN_AFTER: u32 = 8;

/// A Host is none of a log if less than one in so many of their certain pairs has both.
pub(crate) const HOST_PAIRS_RARE: u32 = 100;

/// How late a record of a connection may come behind later ones: microseconds. A balancer that starts again takes
/// longer to come to a number and a port that it had before.
pub(crate) const RECORDS_REORDERED: i64 = 1_000_000;

/// Most mappings of a group that a decision looks at.
pub(crate) const GROUP_SCAN: usize = 64;

/// Most candidates of a single-line match.
pub(crate) const SINGLE_CANDIDATES: usize = 32;

/// How much cheaper the best mapping of a single-line match must be than every rival of another client.
pub(crate) const SINGLE_LEAD: i64 = 2_500;

/// The same where both clients have the line's User-Agent: the turn of a second costs more than [`SINGLE_LEAD`], though only
/// places tell whether it was between line and mapping.
pub(crate) const SINGLE_LEAD_ALIKE: i64 = 7_000;

/// Cost, beside the rarity of the User-Agent, of a client that usually has another User-Agent.
pub(crate) const OTHER_AGENT: i64 = 3_000;

/// Weight of crossing two exchanges where stamps are fine: delays say what is likely.
pub(crate) const CROSSED_FINE: f64 = 0.5;

/// Microseconds by which a request may seem to be asked after its line, where arrival dates both.
pub(crate) const ASKED_AFTER: i64 = 20_000;

/// Cost of a request that was asked after the line.
pub(crate) const ASKED_TOO_LATE: i64 = 6_000;

/// Pairs of lines that are logged in the order of the ends of their exchanges, before any was seen.
pub(crate) const STRAIGHT_AT_FIRST: f64 = 30.0;

/// Pairs that are not, if the exchanges end within a microsecond; half as many for each two doublings.
pub(crate) const CROSSED_AT_FIRST: f64 = 12.0;

/// How much more often lines are crossed than certain lines are, where the front is kept: crossed lines are in doubt more
/// often. Fitted with made sites of noisy ends and of lines in blocks.
pub(crate) const CROSSED_MORE: f64 = 1.6;

/// How much more often lines are crossed where the lines of all groups are in one order. Fitted with a fifth of the lines or records missing, at 600
/// requests a second.
pub(crate) const CROSSED_IN_SEQUENCE: f64 = 2.5;

/// Pairs of a gap at which both counts are halved.
pub(crate) const END_ORDER_FADE_AT: f64 = 4_000.0;

/// Nearly certain lines after which the share of crossed lines is known, so that the front is kept. Fitted with made
/// sites of one page.
pub(crate) const END_ORDER_KNOWN_AFTER: usize = 32;

/// Lines before a line whose ends are remembered, and one in how many of them it is compared with.
pub(crate) const END_ORDER_LINES: usize = 64;
pub(crate) const END_ORDER_STRIDE: usize = 4;

/// Microseconds by which an exchange is longer than a stamp, for the stamp to tell its start from its end.
pub(crate) const STAMPED_GAP: i64 = 100_000;

/// Lines that named starts, less those that named ends, from which a server's stamps are known to name starts.
pub(crate) const STAMPED_LEAST: i32 = 2;

/// Highest count of these.
pub(crate) const STAMPED_MEMORY: i32 = 16;

/// Cost of a stamp of the start where it is not known what stamps name.
pub(crate) const STAMPED_UNKNOWN: i64 = 4_000;

/// Cost of an exchange without a record of the end, which may be lost.
pub(crate) const END_UNSEEN: i64 = 4_000;

// Lines and mappings that tell only when a request was asked.

/// Most lines that are weighed together.
pub(crate) const ASKED_LINES: usize = 16;

/// Lines behind those that are decided together.
pub(crate) const ASKED_AHEAD: usize = 3;

/// Most lines that are decided together.
pub(crate) const ASKED_DECIDED: usize = 10;

/// Most mappings of a group behind its first line that lines are weighed with at once.
pub(crate) const ASKED_YOUNGER: usize = 24;

/// Most mappings before the first line.
pub(crate) const ASKED_OLDER: usize = 32;

/// Cost of delay or place from which a line hardly has an older mapping: one in 3,000.
pub(crate) const ASKED_DEAR: i64 = 8_000;

/// Cost above the least, up to which mappings count where all of them are that dear.
pub(crate) const ASKED_DEARER: i64 = 3_000;

/// Probability of a line without a mapping from which it counts as one.
pub(crate) const ALONE_CLEARLY: f64 = 0.9;

/// Most rounds in which shares are found.
pub(crate) const MATCHING_ROUNDS: usize = 40;

/// Change of all shares below which there are no more rounds.
pub(crate) const MATCHING_CHANGE: f64 = 0.005;

/// Cost above the least of a line's pairs from which a pair does not count: one in 1,100.
pub(crate) const MATCHING_DEAR: i64 = 7_000;

/// The least part of a share that is not sure: it keeps weights within bounds.
pub(crate) const MATCHING_REST: f64 = 1e-6;

/// Share of a pair from which its mapping is taken and no candidate of other lines.
pub(crate) const CLAIMED_WHOLE: f64 = 0.98;

/// How much less a mapping is preferred that an earlier line has, but in doubt.
pub(crate) const NAMED_AGAIN: f64 = 0.9;

/// Probability that a mapping's line is still to come from which it is no candidate any more.
pub(crate) const CLAIMED_LEAST: f64 = 0.03;

/// Certain pairs whose median is the usual place.
pub(crate) const PLACES_RECENT: usize = 7;

/// Certain pairs after which their median is found anew.
pub(crate) const PLACES_MEDIAN_AFTER: usize = 4;

/// Certain pairs from which the usual place is known.
pub(crate) const PLACES_KNOWN_AFTER: usize = 7;

/// Certain pairs after which costs are found anew at first.
pub(crate) const PLACES_REBUILT_AFTER: u32 = 8;

/// What is expected of places before any pair was seen: as many pairs, and how many places these are off on average.
pub(crate) const PLACES_AT_FIRST: (f64, f64) = (4.0, 1.5);

/// Lines that a second may have more or fewer than mappings by chance; and one more for so many lines of a second.
pub(crate) const LEAD_BY_CHANCE: i64 = 12;
pub(crate) const LEAD_LINES: f64 = 50.0;

/// Lines of all seconds together that may be more than mappings: requests before the first second.
pub(crate) const MORE_LINES: f64 = 5.0;

/// Pairs of certain pairs whose lines are in the order of their mappings, before any was seen.
pub(crate) const PLACES_STRAIGHT_AT_FIRST: f64 = 8.0;

/// Pairs that are not, of mappings next to each other; half as many for each two doublings of the gap.
pub(crate) const PLACES_CROSSED_AT_FIRST: f64 = 1.0;

/// Order tells more than fine stamps if of mappings so many places from each other, fewer lines are crossed than this
/// part of the others.
pub(crate) const PLACES_STRICT: i64 = 2;
pub(crate) const PLACES_CROSSED_STRICTLY: f64 = 0.1;

/// Most that a place costs: places may have moved.
pub(crate) const PLACES_LOST: i64 = 7_000;

/// Cost of each place off the first places of a group, before places are known.
pub(crate) const PLACE_AT_FIRST: i64 = 200;

/// Most that such a place costs.
pub(crate) const PLACE_AT_FIRST_MOST: i64 = 4_000;

/// Share of mappings without a line, or of lines without a mapping, beyond chance, from which places drift within a
/// second.
pub(crate) const PLACES_DRIFT: f64 = 0.03;

/// Variance of places by parts of a second, beside that of what is missing: requests are underway.
pub(crate) const PLACES_SPREAD: f64 = 0.5;

/// How far lines are behind their parts of a second, and the variance of that, before pairs tell it: in seconds.
pub(crate) const LAG_AT_FIRST: (f64, f64) = (0.0, 0.000_9);

/// The least variance of that.
pub(crate) const LAG_VARIANCE_LEAST: f64 = 0.000_025;

/// Least lines and mappings of a second whose parts tell something.
pub(crate) const PLACES_SPREAD_FROM: f64 = 4.0;

/// Cost of a pair of such a second with fewer of them: its line may be in any of some places.
pub(crate) const PLACES_FEW: i64 = 2_000;

/// Lines of a request after which its rate is a moving average.
pub(crate) const RATE_LINES: f32 = 16.0;

/// Certain pairs that tell it, and how many are needed.
pub(crate) const LAGS_RECENT: usize = 63;
pub(crate) const LAGS_KNOWN_AFTER: usize = 12;

/// Share of a pair from which it teaches delays while certain pairs are too few.
pub(crate) const DELAYS_GUESSED: f64 = 0.5;

/// Share of a pair from which it teaches places and delays if it is far from all others.
pub(crate) const FAR_TEACHES: f64 = 0.95;

/// Places from all others of the group at which a pair is hardly in doubt, whatever the order of lines.
pub(crate) const PLACES_FAR: u64 = 24;

/// Share of other candidates up to which a pair teaches delays and places.
pub(crate) const TEACHES_BESIDE: f64 = 0.1;

/// Certain pairs at which all counts are halved.
pub(crate) const PLACES_FADE_AT: u32 = 4_096;

/// How many pairs a place counts in which none was seen.
pub(crate) const PLACES_UNSEEN: f64 = 0.02;

// Alignment of a group's lines and mappings.

/// Most lines that are aligned together.
pub(crate) const LATTICE_LINES: usize = 16;

/// Most mappings that they are aligned with.
pub(crate) const LATTICE_MAPPINGS: usize = 32;

/// The same where it is kept how far lines have come, beside lines of which some have no mapping or one in ten is logged.
pub(crate) const LATTICE_LINES_KEPT: usize = 32;
pub(crate) const LATTICE_MAPPINGS_KEPT: usize = 160;

/// Probability that lines have come past a mapping from which the next lines are aligned without it, and how likely
/// it is left for other lines below which it is gone.
pub(crate) const REACHED: f64 = 0.995;
pub(crate) const REACHED_LEFT: f64 = 0.5;

/// Most lines and mappings of a server in one alignment, where many of either are missing, and how many lines are left to
/// the next alignment: what follows decides lines in doubt.
pub(crate) const SEQUENCE_LINES: usize = 96;
pub(crate) const SEQUENCE_MAPPINGS: usize = 384;
pub(crate) const SEQUENCE_AHEAD: usize = 48;

/// Held lines to look at, and mappings of each group whose end is unseen.
pub(crate) const SEQUENCE_SCAN: usize = 1_024;
pub(crate) const SEQUENCE_UNSEEN: usize = 2;

/// Lines of a group looked at for those of one file.
pub(crate) const LATTICE_SCAN_LINES: usize = 64;

/// Before delays are known: microseconds after a request from which a line is less and less likely, half as likely
/// for each doubling.
pub(crate) const ASKED_AT_FIRST: u64 = 20_000;

/// Most lines decided by one alignment where a group has more lines.
pub(crate) const LATTICE_DECIDED: usize = 8;

/// Most mappings outside the order that a line may have: deferred ones, and exchanges whose end is unseen.
pub(crate) const LATTICE_OTHERS: usize = 8;

/// Mappings looked at for the first young one.
pub(crate) const LATTICE_SCAN: usize = 512;

/// Mappings in an alignment that are older than a line's own should be.
pub(crate) const LATTICE_OLD: usize = 12;

/// Step of costs whose weights are kept in a table.
pub(crate) const LATTICE_STEP: i64 = 20;

/// Highest cost in an alignment: 16 lines of it stay within the range of a float.
pub(crate) const LATTICE_WORST: i64 = 24_000;

/// Lowest weight of a left-over mapping: one in 1,100.
pub(crate) const LEFT_OVER_LEAST: f64 = 0.000_9;

/// Left-over and taken mappings before any was seen.
pub(crate) const LEFT_OVER_AT_FIRST: (f64, f64) = (1.0, 400.0);

/// Left-over and taken mappings at which both counts are halved.
pub(crate) const LEFT_OVER_FADE_AT: f64 = 512.0;

/// Mappings, or lines, at which both counts are halved.
pub(crate) const FLOW_FADE_AT: f64 = 2_048.0;

/// Mappings, or lines, from which it tells something that there are fewer of the others.
pub(crate) const FLOW_KNOWN_AFTER: f64 = 200.0;

/// The part by which there may be fewer by chance.
pub(crate) const FLOW_CHANCE: f64 = 0.1;

/// Share that is taken off where both mappings are left over and lines without one.
pub(crate) const LEFT_OVER_BOTH: f64 = 0.9;

/// Least share of lines without a mapping in a group.
pub(crate) const ALONE_LEAST: f64 = 0.000_2;

/// Share of lines without a mapping from which equal lines of one second are in doubt by order, and by how much each of them
/// adds to the variance of the place in the order. Both fitted with another balancer at half or a tenth of the lines.
pub(crate) const ALONE_MANY: f64 = 0.05;
pub(crate) const ALONE_DRIFT: f64 = 0.6;

/// Mappings of a second without a line in it by chance, for the root of the number of mappings: lines come in another
/// second than requests.
pub(crate) const LEFT_BY_CHANCE: f64 = 0.1;

/// Share of lines without a mapping from which the front is not kept. Fitted, as [`ALONE_SUPPOSED`], with
/// made sites: health checks, and another balancer at a tenth or half of the lines.
pub(crate) const ALONE_KEPT: f64 = 0.25;

/// The part of the mappings supposed at first that counts against lines without one, where lines are in order.
pub(crate) const ALONE_SUPPOSED: f64 = 0.15;

/// Share of lines without a mapping in groups with several candidates from which no line of these is certain.
pub(crate) const ALONE_IN_DOUBT: f64 = 0.005;

/// Density of delays, in parts per second, up to which a line without a mapping is as likely as its share says:
/// equal requests come so often.
pub(crate) const ALONE_RATE: f32 = 4.0;

/// Cost, beside its delay, of a mapping that was deferred.
pub(crate) const DEFERRED: i64 = 1_000;

/// Share, in thousandths, from which a pair of an alignment teaches delays.
pub(crate) const LATTICE_TEACHES: u16 = 950;

/// The same while delays are not settled.
pub(crate) const LATTICE_TEACHES_EARLY: u16 = 800;

/// While delays are not settled: microseconds from which the cost of a delay grows, by a natural logarithm each
/// time it grows by e.
pub(crate) const END_AT_FIRST: u64 = 1_000;

/// How much likelier a line must be without a mapping to stay without a client.
pub(crate) const NOBODY_LEAD: f64 = 0.2;

/// Time in microseconds beyond the ordinary delays, within which the end of a second client's exchange leaves a line in
/// doubt. On a busy machine the balancer sees ends later than the server logs lines: by up to 24 ms with nginx and three
/// sites on two processors.
pub(crate) const ENDS_CLOSE: i64 = 30_000;

/// Share of one client, in thousandths, without which a line is not certain.
pub(crate) const LATTICE_CERTAIN: u16 = 980;

/// Cost of a delay from which a mapping is overdue: its line would have come by now.
pub(crate) const OVERDUE: i64 = 7_000;

/// The same where both stamps are coarse, or by the order of the server's log.
pub(crate) const OVERDUE_COARSE: i64 = 9_000;

/// Highest cost of an end that does not follow on the end of the line logged before.
pub(crate) const ADVANCE_WORST: i64 = 9_000;

// The balancer's port.

/// Requests of a connection that are compared in search of the line's own.
pub(crate) const PORT_REQUESTS_AHEAD: u32 = 8;

/// Probability that a line belongs to the first of several exchanges of a shared connection: a later one
/// only if a record or a line was lost.
pub(crate) const SHARED_PORT_PROBABILITY: u16 = 950;

/// Equal exchanges of one connection that a guess makes guesses, too.
pub(crate) const SHARED_PORT_RIVALS: usize = 16;

/// Connections remembered for each port.
pub(crate) const PORT_CONNECTIONS: usize = 16;

/// Unanswered requests that the end of a connection ends.
pub(crate) const CLOSED_REQUESTS: u32 = 64;

// Opaque TLS.

/// TLS exchanges remembered for each server.
pub(crate) const TLS_EXCHANGES: usize = 1 << 16;

/// Held lines, and TLS exchanges, that a decision looks at.
pub(crate) const TLS_SCAN: usize = 128;

/// Microseconds by which a coarse stamp may miss the life of its exchange, by errors of clocks.
pub(crate) const TLS_CLOCK_ERROR: i64 = 20_000;

/// Cost of each exchange before the first line of all.
pub(crate) const TLS_BEGIN: i64 = 1_000;

/// Highest cost of a size before any was learnt.
pub(crate) const TLS_SIZE_UNLEARNT: i64 = 2_000;

/// How much the highest cost of a size grows with each size that is learnt.
pub(crate) const TLS_SIZE_LEARNT: i64 = 100;

/// Highest cost of the time between a line and its exchange, where stamps are fine.
pub(crate) const TLS_TIME_WORST: i64 = 9_000;

/// Average share of chosen clients before any line, and the divisor of each step of the average. These and the
/// next four are fitted to nginx and Apache behind passed-through TLS at full speed, live and offline, in combined
/// and common format (accuracy, `--balancer ours --row tls`, four seeds).
pub(crate) const TLS_FOLLOWED_AT_FIRST: f64 = 0.9;

/// Divisor of each step of that average.
pub(crate) const TLS_FOLLOWED_MEMORY: f64 = 48.0;

/// Averages below which alignments have lost their place, and above which a share is a probability.
pub(crate) const TLS_FOLLOWED: (f64, f64) = (0.88, 0.92);

/// Where alignments have lost their place: logarithm of the odds of a share of one half.
pub(crate) const TLS_LOST: f64 = -2.2;

/// By how much this falls with an average that is lower than the other number.
pub(crate) const TLS_LOST_SLOPE: (f64, f64) = (8.0, 0.75);

/// Most slots of an exchange.
pub(crate) const TLS_REPEATS: u32 = 24;

/// Lines before the decided line that are aligned again.
pub(crate) const TLS_PAST: usize = 12;

/// Lines behind the decided line that are aligned with it.
pub(crate) const TLS_AHEAD: usize = 20;

/// Most slots in the window, besides those before the slot of the line before the window.
pub(crate) const TLS_SLOTS: usize = 96;

/// Slots before the slot of the line before the window.
pub(crate) const TLS_SLOTS_BEHIND: usize = 8;

/// Cost of each slot that the line before the window may have been given wrongly.
pub(crate) const TLS_BACK: i64 = 1_500;

/// Cost from which a pair has no weight.
pub(crate) const TLS_IMPOSSIBLE: i64 = 30_000;

/// Microseconds between the ends of exchanges within which their lines often come in the reverse order, besides
/// a part of the time that exchanges take.
pub(crate) const TLS_ORDER_SCALE: i64 = 300;

/// Part of the time that an exchange of one request takes within which the order of lines is in doubt.
pub(crate) const TLS_LIFE_PART: i64 = 2;

/// Factor of the weight out of order between two requests of one exchange.
pub(crate) const TLS_WITHIN: f64 = 0.05;

/// Share of lines out of order before any was seen.
pub(crate) const TLS_CROSSED_AT_FIRST: f64 = 0.02;

/// Least weight of a line out of order.
pub(crate) const TLS_CROSSED_LEAST: f64 = 0.005;

/// Divisor of each step of the share of lines out of order: a moving average.
pub(crate) const TLS_CROSSED_MEMORY: f64 = 256.0;

/// Cost of a line without a TLS exchange.
pub(crate) const TLS_UNMATCHED: i64 = 14_000;

/// Cost of an exchange without any line.
pub(crate) const TLS_SKIPPED: i64 = 4_000;

/// Cost of a line that an exchange could have in addition, and does not.
pub(crate) const TLS_SPARE: i64 = 1_500;

/// Cost of a line that names another balancer than the exchange does.
pub(crate) const TLS_OTHER_BALANCER: i64 = 5_000;

/// Cost of a coarse stamp outside the exchange's life but within the usual delays.
pub(crate) const TLS_WITHIN_DELAYS: i64 = 1_000;

/// While delays are not known: cost of each doubling of a delay beyond [`TLS_UNLEARNT_UNIT`].
pub(crate) const TLS_UNLEARNT: i64 = 500;

/// Microseconds.
pub(crate) const TLS_UNLEARNT_UNIT: u64 = 500;

/// Microseconds below which an exchange is brief: all lines come at its end.
pub(crate) const TLS_BRIEF: i64 = 2_000;

/// How much later than the end of an exchange a line may be while delays are not known: microseconds.
pub(crate) const TLS_LATEST: i64 = 5_000_000;

/// Microseconds beyond twice the longest usual delay that a line may be late.
pub(crate) const TLS_LATE_MARGIN: i64 = 50_000;

/// Cost from which a pair of line and exchange is impossible.
pub(crate) const TLS_TOO_DEAR: i64 = 13_000;

/// Fewest bytes that a response has beyond its logged size.
pub(crate) const TLS_LEAST_OVERHEAD: u32 = 20;

/// Highest cost of the size of a line in an exchange with several lines.
pub(crate) const TLS_SHARED_SIZE: i64 = 2_500;

/// Highest cost of a size.
pub(crate) const TLS_SIZE_WORST: i64 = 8_000;

/// Bits of a size difference that choose its counter.
pub(crate) const TLS_SIZE_BITS: u32 = 10;

/// Octave that stands for the width of all negative size differences.
pub(crate) const TLS_SIZE_BELOW: usize = 13;

/// Cost of a pair with a size of the usual surprise.
pub(crate) const TLS_SIZE_USUAL: i64 = 1_000;

/// Usual surprise before any size was learnt.
pub(crate) const TLS_SIZE_AT_FIRST: i64 = 6_500;

/// Divisor of each step of the usual surprise: a moving average.
pub(crate) const TLS_SIZE_MEMORY: i64 = 32;

/// Sizes counted when all counts are halved.
pub(crate) const TLS_SIZES_FADE_AT: u32 = 4_096;

// Delays from mapping to line.

/// Microseconds up to which a delay counts as none, and the width of the first buckets.
pub(crate) const DELAY_UNIT: u64 = 100;

/// Share of mappings that no line ever answers.
pub(crate) const DELAY_ORPHANS: f32 = 0.005;

/// While nothing is known: cost of a line just before its mapping.
pub(crate) const DELAY_BEFORE: i64 = 2_000;

/// While nothing is known: further cost for each bucket that a line comes earlier.
pub(crate) const DELAY_BEFORE_STEP: i64 = 120;

/// Cost of a stamp of whole seconds that is one second off the usual: few delays lie across the turn of a
/// second.
pub(crate) const DELAY_NEXT_STAMP: i64 = 3_000;

/// Before delays are known: the shortest and the longest delay, in microseconds, of a certain line. Clocks
/// that nobody compared may be off by hours.
pub(crate) const DELAY_AT_FIRST: (i64, i64) = (-5_000_000, 10_000_000);

/// Known pairs from which a shorter delay is doubted, and the microseconds between: the line may be of another balancer,
/// whose record is missing.
pub(crate) const DELAYS_TELL_EARLY: u32 = 4;
pub(crate) const EARLY_AT_FIRST: i64 = 1_500_000;

/// Pairs needed before delays are used.
pub(crate) const DELAYS_USED_AFTER: u32 = 20;

/// Pairs needed before a delay can rule a mapping out.
pub(crate) const DELAYS_SETTLED_AFTER: u32 = 200;

/// Pairs after which only one pair in [`DELAYS_SAMPLE`] is learnt.
pub(crate) const DELAYS_PLENTY: u32 = 1_024;

/// See [`DELAYS_PLENTY`].
pub(crate) const DELAYS_SAMPLE: u32 = 4;

/// Buckets beyond the observed delays that are still ordinary: two octaves.
pub(crate) const DELAY_MARGIN: usize = 8;

/// Pairs counted when all counts are halved, so that a changed server is learnt anew.
pub(crate) const DELAYS_FADE_AT: u32 = 2_048;

/// Highest cost of a delay.
pub(crate) const DELAY_WORST: i64 = 14_000;

/// Before delays are known: how many stamps before and behind the end of an exchange a coarse stamp may be.
/// It covers a clock that is off without being seen to be.
pub(crate) const COARSE_PRIOR: (i64, i64) = (2, 4);

/// Pairs needed before the cost of a coarse stamp outside the span of delays is what was seen.
pub(crate) const STEPS_USED_AFTER: u32 = 400;

/// Before delays are known: microseconds after the end of an exchange at which most stamps of whole seconds are.
pub(crate) const COARSE_AT_FIRST: std::ops::Range<i64> = -1_050_000..150_000;

/// Delays are dense where they are at least one in so many as dense as at best.
pub(crate) const COARSE_SPARSE: u32 = 12;

/// Cost of a coarse stamp outside the span of delays.
pub(crate) const COARSE_OUTSIDE: i64 = 3_000;

/// Further cost for each doubling of the distance from that span.
pub(crate) const COARSE_DOUBLING: i64 = 1_000;

/// Microseconds from which that distance is counted.
pub(crate) const COARSE_UNIT: u64 = 10_000;

/// Highest cost of a coarse stamp.
pub(crate) const COARSE_WORST: i64 = 12_000;

/// Cost saved by taking an exchange whose line is overdue.
pub(crate) const COARSE_OVERDUE: i64 = 5_000;

// User-Agents.

/// Clients with a profile; a newer client replaces a client with the same slot.
pub(crate) const PROFILES: usize = 1 << 15;

/// User-Agents kept for each client.
pub(crate) const PROFILE_AGENTS: usize = 4;

/// Weight of a certain pair in a profile; a likely pair weighs less, by its probability.
pub(crate) const PROFILE_CERTAIN: u8 = 8;

/// Divisor of probability times [`PROFILE_CERTAIN`]: a guess of 990 thousandths weighs 7, one of 137 weighs 0.
pub(crate) const PROFILE_GUESS_DIVISOR: u16 = 1_100;

/// Sightings of a client's usual User-Agent beyond which more of it teaches nothing.
pub(crate) const PROFILE_PLENTY: u8 = 128;

/// Sightings needed before a client is known.
pub(crate) const PROFILE_KNOWN_AFTER: u16 = 6;

/// Sightings of one User-Agent at which a profile is halved.
pub(crate) const PROFILE_FADE_AT: u8 = 200;

/// Counters of User-Agents; rarer ones share a counter.
pub(crate) const AGENT_COUNTERS: usize = 1 << 12;

/// Lines counted when these counters are halved.
pub(crate) const AGENTS_FADE_AT: u32 = 1 << 20;

/// Lines after which the logarithm of their number is taken anew.
pub(crate) const AGENTS_REFRESH: u32 = 256;

/// Highest cost of a User-Agent.
pub(crate) const AGENT_WORST: i32 = 9_000;

/// Steps of one sighting in the table of logarithms.
pub(crate) const AGENT_STEPS: usize = 8;

// User-Agent fallback.

/// User-Agents remembered for each server.
pub(crate) const FALLBACK_AGENTS: usize = 256;

/// Microseconds between two lines of one read; with coarse stamps, the same stamp.
pub(crate) const FALLBACK_NEAR: i64 = 5_000;

// Agreement of status and size.

/// Agreements and disagreements of statuses before any was seen.
pub(crate) const STATUS_AT_FIRST: (u32, u32) = (1_000, 1);

/// Agreements and disagreements of sizes before any was seen.
pub(crate) const BYTES_AT_FIRST: (u32, u32) = (200, 1);

/// Sizes that have to agree before those that do not make a doubtful line improbable: many servers count the head
/// of the response, and many balancers do not.
pub(crate) const BYTES_CONFIRM_AFTER: u32 = 8;

/// Pairs at which both counts are halved.
pub(crate) const AGREEMENT_FADE_AT: u32 = 4_096;

/// Highest cost of one disagreement.
pub(crate) const DISAGREEMENT_WORST: i64 = 9_000;

// Calibration of doubtful lines.

/// Confirmed and refuted lines before any was seen: four in five; a few lines of the server change that.
pub(crate) const CALIBRATION_AT_FIRST: (u16, u16) = (4, 1);

/// Lines that the evidence contradicts although nothing else speaks against them, and all such lines, before
/// any was seen.
pub(crate) const CONTRADICTED_AT_FIRST: (u16, u16) = (2, 40);

/// Share, in thousandths, of wrong lines that the evidence contradicts: another client seldom has the same
/// User-Agent.
pub(crate) const WRONG_CONTRADICTED: u32 = 900;

/// Confirmed and refuted lines of the User-Agent fallback before any was seen.
pub(crate) const FALLBACK_AT_FIRST: (u16, u16) = (1, 1);

/// Lines at which both counts are halved.
pub(crate) const CALIBRATION_FADE_AT: u16 = 1_024;

/// Highest probability of a line that its own evidence contradicts. In the simulation 50 of 60 such lines
/// are right; so few carry no more than an even chance.
pub(crate) const CONTRADICTED_CEILING: u16 = 500;

// Lost records and missing mappings.

/// Microseconds of one interval in which lost records are counted.
pub(crate) const LOSS_INTERVAL: i64 = 10_000_000;

/// Intervals for which a loss is remembered: the line of a lost record comes when its response has ended.
pub(crate) const LOSS_INTERVALS: usize = 8;

/// What is late by more microseconds comes after an outage. So do its records, perhaps so much later.
pub(crate) const OUTAGE_LATE: i64 = 1_000_000;
pub(crate) const OUTAGE_WAIT: i64 = 2_000_000;

/// What is late by more microseconds is part of a backlog, and so long after the last of it the backlog is over.
pub(crate) const BACKLOG_LATE: i64 = 10_000_000;
pub(crate) const BACKLOG_LASTS: i64 = 60_000_000;

/// For how long a loss is remembered at most, in microseconds: all intervals, and one for their borders.
pub(crate) const LOSS_REMEMBERED: i64 = 9 * LOSS_INTERVAL;

/// Share of wrong lines up to which a line stays certain.
pub(crate) const LOSS_TOLERATED: u64 = 100;

/// Lost records beyond which more are as bad: it keeps products below 2^64.
pub(crate) const LOSS_MOST: u64 = 1 << 40;

/// Lowest and highest probability of a line that losses make doubtful.
pub(crate) const LOSS_PROBABILITY: (u16, u16) = (500, 999);

/// Probability of a line that only its sender, or that of its record, makes doubtful: nothing is known of such senders
/// but that their network was allowed, so the evidence counts as if they were honest.
pub(crate) const UNAUTHENTICATED_PROBABILITY: u16 = 999;

/// Share of lines without a mapping beyond which no line of a server is certain: an only mapping
/// may belong to a client whose own line is still to come.
pub(crate) const MISSING_LIMIT: i64 = 5_000;

/// Share beyond which mappings are missing at all. Records of other balancers come late, when an
/// exchange is over: for these balancers this is the limit of certainty.
pub(crate) const MISSING_AT_ALL: i64 = 500;

/// Share beyond which lines and mappings must differ in the compared fields.
pub(crate) const MISSING_MOST: i64 = 300_000;

/// Divisor of each step of a share: a moving average.
pub(crate) const SHARE_MEMORY: i64 = 256;

/// Share of lines with several candidates before any was seen.
pub(crate) const CROWDED_AT_FIRST: i64 = 100_000;

/// Held lines for each line without a mapping that a server may have and stay certain.
pub(crate) const SHORT_SHARE: u32 = 50;

// Senders that come past the balancer.

/// Senders remembered for each server.
pub(crate) const SENDERS: usize = 8;

/// Lines of a sender that are tried before it is judged.
pub(crate) const SENDER_JUDGED_AFTER: u16 = 24;

/// Lines of a direct sender for each line that is tried all the same.
pub(crate) const SENDER_RETRIED: u16 = 64;

/// Divisor of a sender's lines: with fewer explained lines the sender is direct.
pub(crate) const SENDER_EXPLAINED: u16 = 8;

/// Lines of a sender at which both its counts are halved.
pub(crate) const SENDER_FADE_AT: u16 = 1_000;

/// Pairs of a log and a balancer's address remembered for each server.
pub(crate) const BALANCERS: usize = 16;

/// Lines with a port and a request of a balancer's connections that name another address one after the other, before
/// addresses are known to be translated on the way. By chance one of a hundred such ports has the line's request.
pub(crate) const BALANCER_TRANSLATED: u8 = 8;

/// Microseconds of a span in which lines of each sender and mappings are counted, and how many spans tell something.
pub(crate) const SENDER_SPAN: i64 = 4_000_000;
pub(crate) const SENDER_SPANS: u32 = 12;

/// The greatest sum of squares of what lines and mappings of these spans differ by, for each line: chance makes it 1.
pub(crate) const SENDER_DIFFERS: f64 = 0.12;

/// Spans at which what was counted is halved.
pub(crate) const SENDER_SPANS_MOST: u32 = 256;

/// How many times smaller it has to be for a sender without records.
pub(crate) const SENDER_BETTER: f64 = 4.0;

/// Lines after which records of other balancers are no longer expected by surprise.
pub(crate) const CUTS_UNDECIDED: u64 = 4_096;

// What is remembered of mappings.

/// How often a mapping is passed over before it is deferred.
pub(crate) const PASSED_OVER_MOST: u8 = 12;

/// How many places back a mapping that comes out of order is moved in its group.
pub(crate) const REORDER_MOST: usize = 32;

/// Empty groups that are kept in any case.
pub(crate) const EMPTY_GROUPS: usize = 1_024;

/// Removed mappings that may stay in the order of arrival in any case.
pub(crate) const REMOVED_ARRIVALS: usize = 1 << 12;

// Explanations.

/// Candidates that an explanation names: the nearest in time.
pub(crate) const CANDIDATES_NAMED: usize = 12;

/// Microseconds between the end of a response and that of the request's body from which a line tells which of
/// them it follows.
pub(crate) const LOGGED_END_GAP: i64 = 20_000;

/// Lines before the end of the body, beyond lines after it, from which exchanges are dated by the response.
pub(crate) const LOGGED_END_LEAST: i32 = 3;

/// The most of such lines that are remembered.
pub(crate) const LOGGED_END_MEMORY: i32 = 20;
