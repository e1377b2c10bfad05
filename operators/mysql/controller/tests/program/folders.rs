//! What becomes of data folders.

use mysql_controller::database::program::{Backup, Origin, Policy, RESTORE, Reason, Restore};

use crate::site::{PASSWORD, Server, Site, VERSION, knowing, order, restore};

/// Two tables with every sort of thing that a dump has to carry.
const CONTENT: &str = r#"
CREATE TABLE test (id smallint unsigned not null auto_increment, name varchar(20) not null,
  constraint pk_example primary key (id));
INSERT INTO test VALUES (null, 'some data'), (null, 'some data-2');
CREATE TABLE hard (bits blob, words text, more json, at timestamp default '2001-02-03 04:05:06');
INSERT INTO hard (bits, words, more) VALUES (X'00ff0a0d5c271a', 'a\r\nb\\c''d`e\Z', '{"a": [1, null]}'), (NULL, '🔑', NULL);
CREATE VIEW seen AS SELECT name FROM test;
CREATE PROCEDURE twice() SELECT 2;
CREATE TRIGGER mark BEFORE INSERT ON test FOR EACH ROW SET NEW.name = UPPER(NEW.name);
CREATE EVENT often ON SCHEDULE EVERY 1 SECOND DO INSERT INTO test VALUES (null, 'event');
ALTER EVENT often DISABLE;
"#;
const SEEN: &str = r"
SELECT * FROM test; SELECT HEX(bits), HEX(words), more, at FROM hard; SELECT * FROM seen; CALL twice();
SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE();
SELECT event_name, status FROM information_schema.events WHERE event_schema = DATABASE();
SELECT default_character_set_name, default_collation_name FROM information_schema.schemata
  WHERE schema_name = DATABASE();
";

/// A replica that comes later gets everything from the binary log: the rows are in it, and nothing counts as known before.
async fn is_logged(server: &Server<'_>) {
    let modes = "SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_purged = ''";
    assert_eq!(server.sql(modes).await, "ON\t1");
    let mut tables = Vec::new();
    for log in server.sql("SHOW BINARY LOGS").await.lines() {
        let log = log.split('\t').next().unwrap();
        let events = server.sql(&format!("SHOW BINLOG EVENTS IN '{log}'")).await;
        let lines: Vec<_> = events.lines().collect();
        for pair in lines.windows(2) {
            if pair[0].contains("Table_map") && pair[1].contains("Write_rows") {
                tables.push(pair[0].to_owned());
            }
        }
    }
    for table in [".test)", ".hard)"] {
        assert!(
            tables.iter().any(|map| map.contains(table)),
            "{table}: {tables:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_server_that_is_made_again_has_everything_back_whatever_its_names_and_its_password_are() {
    let site = Site::new().await;
    assert_eq!(site.guard().await.reason(), Reason::DataFolderNotPrepared);
    assert_eq!(
        site.restore(Policy::Required, None).await.reason(),
        Reason::BackupMissing
    );
    let astray = site
        .run(RESTORE, &knowing("b0"), &["--network=none"])
        .await
        .failure();
    assert_eq!(astray.reason, Reason::BackupMissing);
    assert!(astray.error.contains("b0 was taken"), "{astray:?}");
    let filled = site.restore(Policy::IfBackupExists, None).await;
    assert_eq!(
        filled.origin(),
        Origin::Empty,
        "the first time there is no backup"
    );

    let server = site.server(&["--password-history=3"]).await;
    server
        .sql("ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_german1_ci")
        .await;
    server.sql(CONTENT).await;
    let before = server.sql(SEEN).await;
    assert!(
        before.contains("00FF0A0D5C271A") && before.contains("latin1_german1_ci"),
        "{before}"
    );
    let positions = "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')";
    let executed = server.sql(positions).await;
    let made = site.backup(&order("b1"), &server, &[]).await;
    let backup = made.backup();
    let noted = r#"sed -n 's/^  "gtid": "\(.*\)",$/\1/p' /backup/b1/manifest.json"#;
    assert!(executed.contains(':'), "{executed}");
    assert_eq!(site.shell(noted).await.trim(), executed);
    assert_eq!(backup.version, server.sql("SELECT VERSION()").await);
    let again = site.backup(&order("b1"), &server, &[]).await;
    assert_eq!(again.backup(), backup, "the same request is the same backup");
    let said = format!(
        "{}{}",
        made.output,
        site.docker.run(&["logs", &server.container]).await.unwrap()
    );
    assert!(!said.contains(PASSWORD.lines().next().unwrap()), "{said}");
    server.stop().await;

    site.lose_volume("data").await;
    let filled = site.restore(Policy::IfBackupExists, None).await;
    assert_eq!(filled.origin(), Origin::Backup(backup.clone()));
    let server = site.server(&[]).await;
    assert_eq!(server.sql(SEEN).await, before);
    is_logged(&server).await;
    server.sql("INSERT INTO test VALUES (null, 'later')").await;
    assert!(
        server.sql("SELECT name FROM test").await.contains("LATER"),
        "the trigger works"
    );

    // Another Job of the same name, while the server runs: it only tells.
    let later = site.restore(Policy::IfBackupExists, None).await;
    assert_eq!(later.origin(), Origin::Backup(backup));
    site.set_password("another");
    server.restart().await;
    assert!(
        server.sql_as(PASSWORD, "SELECT 1").await.is_err(),
        "the old password is over"
    );
    let kept = server.sql_as("another", "SELECT name FROM test").await.unwrap();
    assert!(kept.contains("LATER"), "{kept}");

    // As an account comes from 5.7, which logs in by what 9 has no more.
    let older = "UPDATE mysql.user SET plugin = 'mysql_native_password',
        authentication_string = '*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9' WHERE user = 'root'";
    server.sql_as("another", older).await.unwrap();
    server.restart().await;
    let way = "SELECT DISTINCT plugin FROM mysql.user WHERE user = 'root'";
    let way = server.sql_as("another", way).await.unwrap();
    assert_eq!(way, "caching_sha2_password");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_folder_with_something_in_it_is_left_as_it_is() {
    let site = Site::new().await;
    let seen = async || {
        site.shell("cd /var/lib/mysql && find . -type f | sort | xargs sha256sum")
            .await
    };
    site.shell(
        "mkdir -p /var/lib/mysql/lost+found /var/lib/mysql/.snapshot && echo x > /var/lib/mysql/photo",
    )
    .await;
    let before = seen().await;
    let refused = site.restore(Policy::IfBackupExists, None).await;
    assert_eq!(refused.reason(), Reason::DataFolderForeign);
    assert_eq!(seen().await, before);

    // As a server without this operator leaves it.
    site.shell("rm /var/lib/mysql/photo").await;
    assert_eq!(site.restore(Policy::Never, None).await.origin(), Origin::Empty);
    site.shell("rm /var/lib/mysql/.mysql-operator.json").await;
    let before = seen().await;
    for policy in [Policy::IfBackupExists, Policy::Required, Policy::Never] {
        assert_eq!(site.restore(policy, None).await.origin(), Origin::Existing);
    }
    assert_eq!(seen().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_damaged_backup_is_never_restored_and_nothing_in_its_place_unasked() {
    let site = Site::new().await;
    site.restore(Policy::Never, None).await.origin();
    let server = site.server(&[]).await;
    server
        .sql("CREATE TABLE t (a INT); INSERT INTO t VALUES (1)")
        .await;
    site.backup(&order("old"), &server, &[]).await.backup();
    server.sql("INSERT INTO t VALUES (2)").await;
    site.backup(&order("new"), &server, &[]).await.backup();
    server.stop().await;
    site.lose_volume("data").await;

    let damages = [
        "printf x | tee -a new/dump.sql.gz > /dev/null",
        "head -c 100 whole.gz > new/dump.sql.gz",
        "rm new/dump.sql.gz",
        // Whole by its sum, and without an end.
        "head -n 5 plain | gzip > new/dump.sql.gz && sed -i \"s/\\\"sha256\\\": .*/\\\"sha256\\\": \\\"$(sha256sum < new/dump.sql.gz | cut -d ' ' -f 1)\\\",/;s/\\\"bytes\\\": .*/\\\"bytes\\\": $(wc -c < new/dump.sql.gz),/\" new/manifest.json",
        "head -n 4 new/manifest.json > m && cat m > new/manifest.json",
    ];
    site.shell("cd /backup && cp new/dump.sql.gz whole.gz && cp new/manifest.json m.json && gzip -dc whole.gz > plain")
        .await;
    for damage in damages {
        let whole = "cp whole.gz new/dump.sql.gz && cp m.json new/manifest.json";
        site.shell(&format!("cd /backup && {whole} && {damage}")).await;
        let refused = site.restore(Policy::IfBackupExists, None).await.failure();
        assert_eq!(refused.reason, Reason::BackupDamaged, "{damage}: {refused:?}");
        assert!(refused.error.contains("restore.from"), "{refused:?}");
    }
    site.shell("cd /backup && cp whole.gz new/dump.sql.gz && cp m.json new/manifest.json")
        .await;
    // The newest was taken elsewhere: none that is older takes its place.
    let elsewhere = site
        .run(RESTORE, &knowing("newer"), &["--network=none"])
        .await
        .failure();
    assert_eq!(elsewhere.reason, Reason::BackupMissing);
    let says = |words: &str| elsewhere.error.contains(words);
    assert!(says("newer was taken") && says("new old"), "{elsewhere:?}");
    assert_eq!(site.shell("ls /var/lib/mysql").await, "");
    let missing = site
        .restore(Policy::IfBackupExists, Some("nonesuch"))
        .await
        .failure();
    assert_eq!(missing.reason, Reason::BackupMissing);
    assert!(missing.error.contains("new old"), "{missing:?}");
    let Origin::Backup(backup) = site.restore(Policy::Required, Some("old")).await.origin() else {
        panic!("not restored")
    };
    assert_eq!(backup.id, "old");
    let server = site.server(&[]).await;
    assert_eq!(server.sql("SELECT * FROM t").await, "1");
}

/// A server of another database would not serve the rows, and its backups would take their place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: --full"]
async fn smoke_a_backup_of_another_database_is_neither_restored_nor_rotated_away() {
    let site = Site::new().await;
    site.restore(Policy::Never, None).await.origin();
    let server = site.server(&[]).await;
    server.sql("CREATE TABLE t (a INT)").await;
    site.backup(&order("theirs"), &server, &[]).await.backup();
    server.stop().await;
    site.lose_volume("data").await;
    // Of a name beyond ASCII the letters in a manifest say nothing.
    for other in ["base", "база", "бара"] {
        let asked = |policy, from| {
            Restore {
                database: other,
                owner: "shop/orders",
                policy,
                from,
                expected: None,
                config: None,
                version: VERSION,
            }
            .environment()
        };
        for from in [None, Some("theirs")] {
            let environment = asked(Policy::IfBackupExists, from);
            let refused = site
                .run(RESTORE, &environment, &["--network=none"])
                .await
                .failure();
            assert_eq!(refused.reason, Reason::DatabaseDiffers, "{refused:?}");
            for word in ["backup theirs", "otus'da`ta", "spec.database", "restore.policy"] {
                assert!(refused.error.contains(word), "{refused:?}");
            }
        }
        assert_eq!(site.shell("ls /var/lib/mysql").await, "");
        site.set_secret(other, PASSWORD);
        let never = site
            .run(RESTORE, &asked(Policy::Never, None), &["--network=none"])
            .await;
        assert_eq!(never.origin(), Origin::Empty);
        let server = site.server(&[]).await;
        for id in ["one", "two", "three"] {
            let mine = Backup {
                database: other,
                ..order(id)
            };
            site.backup(&mine, &server, &[]).await.backup();
        }
        assert_eq!(site.shell("ls /backup").await, "theirs\nthree\ntwo");
        server.stop().await;
        site.lose_volume("data").await;
        let back = site
            .run(RESTORE, &asked(Policy::Required, None), &["--network=none"])
            .await;
        let Origin::Backup(backup) = back.origin() else {
            panic!("not restored")
        };
        assert_eq!(backup.id, "three");
        site.lose_volume("data").await;
        site.shell("cd /backup && rm -r two three").await;
    }
    // A manifest as they were before the name stood in it in digits.
    site.set_password(PASSWORD);
    site.shell("sed -i '/databaseHex/d' /backup/theirs/manifest.json")
        .await;
    assert!(matches!(
        site.restore(Policy::Required, None).await.origin(),
        Origin::Backup(_)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_the_general_log_hears_no_password() {
    let site = Site::new().await;
    site.restore(Policy::Never, None).await.origin();
    let options = [
        "--general-log=ON",
        "--log-output=FILE",
        "--general-log-file=general.log",
    ];
    let server = site.server(&options).await;
    assert_eq!(server.sql("SELECT 'heard'").await, "heard");
    let said = site.shell("cat /var/lib/mysql/general.log").await;
    assert!(said.contains("SELECT 'heard'"), "the log is on");
    let digits = |text: &str| {
        let pairs: Vec<_> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
        pairs.concat()
    };
    let piece = PASSWORD.split('\'').nth(1).unwrap();
    assert!(!said.contains(&digits(piece)) && !said.contains(piece), "{said}");
}

/// The first operator of the kind wrote `mysqldump DATABASE > <name>-dump.sql`, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: --full"]
async fn smoke_the_dump_of_the_kinds_first_operator_is_restored_if_it_is_whole() {
    let site = Site::new().await;
    let dump =
        "DROP TABLE IF EXISTS `test`;\nCREATE TABLE `test` (`id` int);\nINSERT INTO `test` VALUES (7);\n";
    site.shell(&format!("cat > /backup/orders-dump.sql << 'END'\n{dump}END"))
        .await;
    let cut = site.restore(Policy::IfBackupExists, None).await;
    assert_eq!(cut.reason(), Reason::BackupDamaged);
    site.shell("echo '-- Dump completed on 2024-02-19 20:15:07' >> /backup/orders-dump.sql")
        .await;
    let Origin::Backup(backup) = site.restore(Policy::IfBackupExists, None).await.origin() else {
        panic!("not restored")
    };
    assert_eq!(backup.id, "original");
    let server = site.server(&[]).await;
    assert_eq!(server.sql("SELECT * FROM test").await, "7");
    // A backup of ours is newer, whatever the old file's time is.
    site.backup(&order("b1"), &server, &[]).await.backup();
    server.stop().await;
    site.lose_volume("data").await;
    let Origin::Backup(backup) = site.restore(Policy::IfBackupExists, None).await.origin() else {
        panic!("not restored")
    };
    assert_eq!(backup.id, "b1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_a_server_that_cannot_be_made_says_why_and_leaves_an_empty_folder() {
    let site = Site::new().await;
    let environment = restore(Policy::Never, None);
    // An option that no server knows, as a person may write into the configuration.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.cnf"), "[mysqld]\nno_such_option=1\n").unwrap();
    let wrong = format!("{}:/etc/mysql/conf.d:ro", folder.path().display());
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let without = |program: &str| format!("{}:{program}:ro", folder.path().join("empty").display());
    let cases = [
        (&wrong, Reason::ServerFailed),
        (&without("/usr/sbin/mysqld"), Reason::ImageLacksProgram),
        // Rows that nobody can save are not begun with.
        (&without("/usr/bin/mysqldump"), Reason::ImageLacksProgram),
    ];
    for (mount, reason) in cases {
        let run = ["--network=none", "--volume", mount];
        let ended = site.run(RESTORE, &environment, &run).await;
        assert_eq!(ended.reason(), reason, "{ended:?}");
        assert_eq!(site.shell("ls /var/lib/mysql").await, "", "{reason}");
    }
    let failed = site.run(RESTORE, &environment, &["--volume", &wrong]).await;
    assert!(failed.failure().error.contains("no_such_option"), "{failed:?}");
    // Where an image reads no folder, mysqld is told.
    let mut environment = environment;
    let told = environment
        .iter_mut()
        .find(|one| one.name == "CONFIG_ARGUMENT")
        .unwrap();
    told.value = Some("--defaults-extra-file=/own/own.cnf".to_owned());
    let own = format!("{}:/own:ro", folder.path().display());
    let failed = site.run(RESTORE, &environment, &["--volume", &own]).await;
    assert_eq!(failed.reason(), Reason::ServerFailed, "{failed:?}");
    assert!(failed.failure().error.contains("no_such_option"), "{failed:?}");
}
