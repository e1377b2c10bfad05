//! Members that become copies, as far as MySQL lets them.

use super::{
    succession::{busy, host_of_the_copy, next},
    *,
};

impl Fleet {
    /// A server becomes a copy of another that is like it.
    pub(super) fn copy(&mut self, ordinal: i32, donor: &Address) {
        let number: i32 = donor.host.split('.').nth(2).unwrap().parse().unwrap();
        let copied = self.servers[&number].clone();
        assert!(
            !is_starved(&copied),
            "the copy waits for commits that wait for it"
        );
        let server = self.servers.get_mut(&ordinal).unwrap();
        assert!(server.executed.is_empty(), "data was overwritten");
        let like = |server: &Survey| {
            (
                server.version.clone(),
                server.platform.clone(),
                server.characters.clone(),
            )
        };
        assert_eq!(like(server), like(&copied), "MySQL refuses it");
        (server.executed, server.purged) = (copied.executed.clone(), copied.executed);
        server.accounts = copied.accounts;
    }

    /// The second member is a new one, on another kind of machine.
    fn move_one(&mut self) {
        let moved = Survey {
            platform: "Linux aarch64".into(),
            ..fresh(1)
        };
        self.servers.insert(1, moved);
        self.connect();
    }
}

#[test]
fn a_new_member_takes_text_as_the_one_that_it_becomes_a_copy_of() {
    let mut fleet = busy(3, 10_000);
    let mut new = fresh(1);
    new.characters.collation = "utf8mb4_bin".into();
    fleet.servers.insert(1, new);
    fleet.connect();
    let changes = next(&fleet, 3);
    let place = |wanted: fn(&Change) -> bool| changes.iter().position(|(_, change)| wanted(change));
    let resembles = place(|change| matches!(change, Change::Resemble(_)));
    let copies = place(|change| matches!(change, Change::Copy(_)));
    assert!(resembles.is_some() && resembles < copies, "{changes:?}");
    assert_eq!(fleet.settle(3), None);
}

#[test]
fn for_another_machine_nobody_becomes_a_copy_and_what_is_not_purged_is_repeated() {
    let mut fleet = busy(3, 10_000);
    fleet.move_one();
    assert_eq!(host_of_the_copy(&next(&fleet, 3)), None);
    assert_eq!(fleet.settle(3), None);
}

#[test]
fn who_can_neither_be_a_copy_nor_repeat_everything_is_told_why() {
    let mut fleet = busy(2, 7);
    let leader = fleet.servers.get_mut(&0).unwrap();
    leader.purged = leader.executed.clone();
    fleet.move_one();
    let plan = plan(&goal(2), fleet.topology.as_ref(), &fleet.members());
    let (reason, message) = plan.lacking.unwrap();
    assert_eq!(reason, Reason::Diverged);
    assert!(
        message.contains("another machine than the primary's (Linux aarch64, Linux x86_64)"),
        "{message}"
    );
    let newer = Survey {
        version: "9.8.0".into(),
        ..fresh(1)
    };
    let led = fleet.servers[&0].clone();
    assert!(super::super::copying::hindrance(&newer, &led).contains("another series"));
}
