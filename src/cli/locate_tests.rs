use super::*;

const INFO: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
40 22 0:50 / /srv/art rw,nosuid,nodev shared:9 master:2 - fuse.sealfs /var/lib/my\\040store rw,user_id=0\n\
41 40 0:51 / /srv/art/tmp rw - tmpfs tmpfs rw\n\
42 22 0:50 /releases /opt/rel rw - fuse.sealfs /var/lib/my\\040store rw\n\
43 22 0:52 / /srv/art2 rw - fuse.sealfs /var/lib/other rw\n\
garbage\n";

fn at(given: &str, store: Option<&str>) -> Result<(String, String, Option<PathBuf>), Failure> {
    let found = target(Path::new(given), store.map(Path::new), &crate::mounts::parse(INFO))?;
    Ok((found.store.display().to_string(), found.path.to_string(), found.full))
}

#[test]
fn a_store_is_found_where_all_of_it_is_mounted() {
    let mounts = crate::mounts::parse(INFO);
    assert_eq!(point_of(&mounts, Path::new("/var/lib/my store")), Some(PathBuf::from("/srv/art")));
    assert_eq!(point_of(&mounts, Path::new("/var/lib/none")), None);
}

#[test]
fn a_path_is_found_by_the_longest_mount_point() {
    let store = "/var/lib/my store".to_owned();
    let full = |path: &str| Some(PathBuf::from(path));
    assert_eq!(at("/srv/art/a/b", None).unwrap(), (store.clone(), "a/b".into(), full("/srv/art/a/b")));
    assert_eq!(at("/srv/art/", None).unwrap(), (store.clone(), String::new(), full("/srv/art")));
    assert_eq!(at("/srv/art/x/../b", None).unwrap().1, "b");
    assert_eq!(at("/opt/rel/1.0/app", None).unwrap().1, "releases/1.0/app");
    assert_eq!(at("/srv/art2/f", None).unwrap().0, "/var/lib/other");
    assert_eq!(at("/srv/art/tmp/f", None).unwrap_err().exit, Exit::Usage, "another mount hides it");
}

#[test]
fn with_a_store_a_path_is_from_the_mounts_root() {
    let store = Some("/var/lib/my store");
    let found = at("releases/./app", store).unwrap();
    assert_eq!((found.1.as_str(), found.2), ("releases/app", Some(PathBuf::from("/srv/art/releases/app"))));
    assert_eq!(at("/releases/app", store).unwrap().1, "releases/app");
    assert_eq!(at("/var/lib/my store/tree/a", store).unwrap().1, "a");
    assert_eq!(at("x", Some("/var/lib/unmounted")).unwrap().2, None);
    let other = at("/srv/art2/f", store).unwrap_err();
    assert_eq!(other.exit, Exit::Usage);
    assert!(other.to_string().contains("lies in a mount of /var/lib/other"));
    assert_eq!(at("a\nb", store).unwrap_err().exit, Exit::Usage);
}

#[test]
fn without_a_path_the_current_folder_tells() {
    let mounts = crate::mounts::parse(INFO);
    let found = here(Some(Path::new("/var/lib/other")), &mounts).unwrap();
    assert_eq!((found.path.is_root(), found.full), (true, Some(PathBuf::from("/srv/art2"))));
    assert_eq!(here(None, &mounts).unwrap_err().exit, Exit::Usage);
}

#[test]
fn the_last_component_is_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("real")).unwrap();
    std::os::unix::fs::symlink("real", root.join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("real/link")).unwrap();
    assert_eq!(resolve(&root.join("folder/link")), root.join("real/link"));
    assert_eq!(resolve(&root.join("folder/..")), root);
    assert_eq!(resolve(&root.join("none/../x")), root.join("x"));
}
