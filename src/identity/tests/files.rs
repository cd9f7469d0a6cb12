//! Tests of key files and other files with secrets.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn an_identity_is_made_once_and_kept() {
    let data = folder();
    let nested = data.path().join("a/b");
    let first = load_or_create(&nested).unwrap();
    assert_eq!(load_or_create(&nested).unwrap().peer_id(), first.peer_id());
    let names: Vec<_> = fs::read_dir(&nested)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, [KEY_FILE_NAME], "nothing else is left behind");
}

#[test]
fn many_who_create_at_once_get_one_identity() {
    let data = folder();
    let made: Vec<PeerId> = std::thread::scope(|scope| {
        let make = || load_or_create(data.path()).unwrap().peer_id();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
}

#[test]
fn the_key_file_is_what_libp2p_reads() {
    let data = folder();
    export(&fixed(), &key_file_path(data.path()), IfExists::Refuse).unwrap();
    let bytes = fs::read(key_file_path(data.path())).unwrap();
    let read = Keypair::from_protobuf_encoding(&bytes).unwrap();
    assert_eq!(read.public().to_peer_id(), fixed().peer_id());
}

#[test]
fn an_existing_key_is_replaced_only_when_asked() {
    let data = folder();
    let kept = load_or_create(data.path()).unwrap();
    let other = data.path().join("other.key");
    export(&fixed(), &other, IfExists::Refuse).unwrap();

    let refused = import(&other, data.path(), IfExists::Refuse).unwrap_err();
    assert!(
        matches!(refused, KeyFileError::File(SecretFileError::Exists { .. })),
        "{refused}"
    );
    assert_eq!(
        load_or_create(data.path()).unwrap().peer_id(),
        kept.peer_id()
    );

    import(&other, data.path(), IfExists::Replace).unwrap();
    assert_eq!(
        load_or_create(data.path()).unwrap().peer_id(),
        fixed().peer_id()
    );
}

#[test]
fn a_damaged_key_file_is_refused_and_left_as_it_is() {
    let data = folder();
    let path = key_file_path(data.path());
    export(&fixed(), &path, IfExists::Refuse).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[20] ^= 1;
    let longer = [&whole[..], b"\n"].concat();
    for damaged in [
        &b""[..],
        b"\0",
        &whole[..4],
        &whole[..40],
        &longer,
        &flipped,
        b"not a key",
    ] {
        fs::write(&path, damaged).unwrap();
        let error = load_or_create(data.path()).unwrap_err();
        assert!(matches!(error, KeyFileError::Damaged { .. }), "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn keys_of_other_kinds_and_files_too_large_are_named() {
    let data = folder();
    let path = key_file_path(data.path());
    export(&fixed(), &path, IfExists::Refuse).unwrap();
    for (start, name) in [
        ([8, 0, 0x12, 9], "RSA"),
        ([8, 2, 0x12, 9], "Secp"),
        ([8, 3, 0x12, 9], "ECDSA"),
    ] {
        fs::write(&path, start).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    let error = load(&path).unwrap_err();
    assert!(
        matches!(error, KeyFileError::File(SecretFileError::TooLarge { .. })),
        "{error}"
    );
}

#[test]
fn a_missing_file_and_a_folder_are_named() {
    let data = folder();
    let missing = load(&data.path().join("none")).unwrap_err();
    assert!(
        missing.to_string().ends_with("none: no such file"),
        "{missing}"
    );
    let error = load(data.path()).unwrap_err();
    assert!(
        matches!(error, KeyFileError::File(SecretFileError::NotAFile { .. })),
        "{error}"
    );
    assert!(export(&fixed(), &data.path().join("no/folder"), IfExists::Refuse).is_err());
    assert!(export(&fixed(), data.path(), IfExists::Replace).is_err());
    assert!(export(&fixed(), Path::new("/"), IfExists::Replace).is_err());
}

#[test]
fn a_written_network_key_is_read_again() {
    let data = folder();
    let path = data.path().join("network.key");
    let key = NetworkKey::generate();
    key.write(&path, IfExists::Refuse).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!("{}\n", hex::encode(key.as_bytes()))
    );
    assert_eq!(NetworkKey::read(&path).unwrap().as_bytes(), key.as_bytes());
    assert!(!exposed_to_others(&path));
    assert!(
        NetworkKey::generate()
            .write(&path, IfExists::Refuse)
            .is_err()
    );
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn key_and_folder_are_their_owners_alone() {
        let data = folder();
        let nested = data.path().join("diatribe");
        load_or_create(&nested).unwrap();
        assert_eq!(mode(&nested), 0o700);
        assert_eq!(mode(&key_file_path(&nested)), 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let data = folder();
        load_or_create(data.path()).unwrap();
        let path = key_file_path(data.path());
        for exposed in [0o640, 0o604, 0o620, 0o666] {
            set_mode(&path, exposed);
            assert!(exposed_to_others(&path));
            let said = load_or_create(data.path()).unwrap_err().to_string();
            assert!(
                said.contains(&format!("chmod 600 {}", path.display())),
                "{said}"
            );
        }
        set_mode(&path, 0o400);
        load_or_create(data.path()).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let data = folder();
        set_mode(data.path(), 0o770);
        let said = load_or_create(data.path()).unwrap_err().to_string();
        assert!(said.contains("chmod 700"), "{said}");
        set_mode(data.path(), 0o755);
        load_or_create(data.path()).unwrap();
    }

    #[test]
    fn a_key_of_another_user_is_refused() {
        // Only root can give a file away: elsewhere there is nothing to try.
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let data = folder();
        load_or_create(data.path()).unwrap();
        std::os::unix::fs::chown(key_file_path(data.path()), Some(12345), None).unwrap();
        let said = load_or_create(data.path()).unwrap_err().to_string();
        assert!(said.contains("belongs to user 12345"), "{said}");
    }

    #[test]
    fn links_and_pipes_are_not_followed() {
        let data = folder();
        let real = data.path().join("real.key");
        export(&fixed(), &real, IfExists::Refuse).unwrap();
        symlink(&real, key_file_path(data.path())).unwrap();
        let error = load_or_create(data.path()).unwrap_err();
        assert!(
            matches!(error, KeyFileError::File(SecretFileError::Symlink { .. })),
            "{error}"
        );

        // A link with a missing target is not a free name either.
        fs::remove_file(&real).unwrap();
        assert!(load_or_create(data.path()).is_err());
        assert!(!real.exists());

        let pipe = data.path().join("pipe");
        let made = std::process::Command::new("mkfifo")
            .arg("-m600")
            .arg(&pipe)
            .status()
            .unwrap();
        assert!(made.success());
        let error = load(&pipe).unwrap_err();
        assert!(
            matches!(error, KeyFileError::File(SecretFileError::NotAFile { .. })),
            "{error}"
        );
    }

    #[test]
    fn secrets_from_a_container_platform_are_read_through_links() {
        let data = folder();
        let (real, link) = (data.path().join("real"), data.path().join("link"));
        fs::write(&real, "a passphrase in a file\n").unwrap();
        set_mode(&real, 0o444);
        symlink(&real, &link).unwrap();
        assert_eq!(
            read_passphrase_file(&link).unwrap().as_str(),
            "a passphrase in a file"
        );
        assert!(exposed_to_others(&link));
        assert!(matches!(
            read_passphrase_file(data.path()),
            Err(PassphraseError::File(_))
        ));
    }

    #[test]
    fn a_private_file_is_opened_through_no_link_and_closed_to_others() {
        let data = folder();
        let (path, elsewhere) = (data.path().join("lock"), data.path().join("elsewhere"));
        drop(open_private(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::write(&path, "what is in it").unwrap();
        set_mode(&path, 0o666);
        drop(open_private(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "what is in it");

        fs::remove_file(&path).unwrap();
        for target in [&elsewhere, &data.path().to_owned()] {
            symlink(target, &path).unwrap();
            let error = open_private(&path).unwrap_err();
            assert!(matches!(error, SecretFileError::Symlink { .. }), "{error}");
            fs::remove_file(&path).unwrap();
        }
        assert!(!elsewhere.exists());
    }
}
