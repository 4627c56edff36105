//! Which options and words of which programs are followed by a secret.
//!
//! | in a row | says |
//! | --- | --- |
//! | `-p` | the value of this option, attached or the next word, is a secret |
//! | `-p+` | only an attached one |
//! | `-u:` | the value is `user:secret` (or `user%secret`, `user,secret`, `user/secret`) |
//! | `-l=` | the value is `name=secret`, whatever the name |
//! | `-i!` | the value is none |
//! | `word>` | the word after this word is a secret |
//! | `word>>` | the second word after it, too |
//! | `word*` | all words after this word are secrets, options too |
//! | `*=` | in each word `name=value` the value is a secret |

use std::collections::HashMap;
use std::sync::LazyLock;

/// Programs; a word of the command that must have come before (or none); what is secret.
const TABLE: &[(&str, &str, &str)] = &[
    (
        "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlbinlog mysqlslap mysqlpump mysqlsh mysqlupgrade",
        "",
        "-p+",
    ),
    (
        "mariadb mariadb-dump mariadb-admin mariadb-import mariadb-check mariabackup xtrabackup innobackupex mydumper",
        "",
        "-p+",
    ),
    ("mycli pgcli litecli percona-toolkit pt-table-checksum pt-archiver myloader", "", "-p"),
    ("sshpass", "", "-p"),
    ("docker podman buildah nerdctl skopeo oras crane regctl cosign helm img kaniko finch", "login", "-p"),
    (
        "skopeo buildah podman",
        "",
        "--creds: --src-creds: --dest-creds: --dest-registry-token --src-registry-token",
    ),
    (
        "curl",
        "",
        "-u: -U: -E: --cert: --proxy-cert: -b --cookie --user: --proxy-user: --tlsuser --socks5-gssapi-service!",
    ),
    ("wget aria2c axel lftp ncftpget httrack", "", "-u: --user! --header"),
    ("ncftpget ncftpput ncftp ftp lftp", "", "-p"),
    ("http https httpie xh xhs", "", "-a: --auth:"),
    (
        "openssl",
        "",
        "-k -K -pass -passin -passout -password -passcert -pkeyopt -macopt -hmac -psk -srppass -kekpass -pwri_password -secret",
    ),
    ("openssl", "passwd", "passwd*"),
    ("ConvertTo-SecureString", "", "ConvertTo-SecureString>"),
    ("send", "", "send>"),
    ("smbclient", "", "smbclient>>"),
    ("fly flyctl", "", "-t"),
    ("gpg gpg2 gpgsm", "", "--passphrase -passphrase"),
    ("age ccrypt mcrypt", "", "-K -k"),
    (
        "ldapsearch ldapadd ldapmodify ldapdelete ldapcompare ldapwhoami ldapmodrdn ldapexop ldappasswd dsconf dsidm",
        "",
        "-w -a -s -t",
    ),
    ("redis-cli valkey-cli keydb-cli", "", "-a --pass AUTH>> auth>> requirepass> masterauth> sentinel-pass>"),
    ("sqlcmd bcp osql tsql bsqldb fisql sqsh", "", "-P"),
    ("mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop mongofiles", "", "-p"),
    (
        "cqlsh cassandra-cli influx clickhouse-client snowsql beeline cypher-shell arangosh hdbsql cbq cbimport cbexport",
        "",
        "-p",
    ),
    ("couchbase-cli cbbackupmgr ksql presto trino vsql nzsql mclient exasol exaplus", "", "-p -w"),
    ("nodetool", "", "-pw"),
    ("sqlplus sqlldr expdp impdp exp imp rman sqlcl tnsping dgmgrl", "", "@: userid>"),
    ("db2 clpplus", "", "using>"),
    ("isql iusql", "", "-P"),
    ("psql pg_dump pg_restore pg_dumpall pgbench createdb dropdb createuser", "", "-W+"),
    (
        "smbclient smbget rpcclient net winexe smbmap smbcacls nmblookup smbtree cifscreds",
        "",
        "-U: --user: -p",
    ),
    ("mount mount.cifs", "", "*="),
    ("crackmapexec netexec nxc hydra medusa evil-winrm hashcat", "", "-p -H"),
    ("xfreerdp xfreerdp3 wlfreerdp mstsc", "", "/p"),
    ("rdesktop tigervncserver vncviewer vncdotool x11vnc remmina", "", "-p -passwd"),
    ("plink pscp psftp putty puttygen kitty", "", "-pw -pwfile!"),
    ("winscp", "", "/password"),
    ("psexec wmic runas net.exe schtasks", "", "-p /p /rp"),
    ("ipmitool", "", "-P -k -y"),
    ("snmpget snmpwalk snmpset snmpbulkwalk snmptrap snmpgetnext snmptable", "", "-c -A -X"),
    ("zip unzip", "", "-P"),
    ("7z 7za 7zr 7zz", "", "-p"),
    ("rar unrar", "", "-p+ -hp+"),
    ("qpdf", "", "--encrypt>>"),
    ("pdftk", "", "user_pw> owner_pw> input_pw>"),
    (
        "keytool jarsigner",
        "",
        "-storepass -keypass -srcstorepass -deststorepass -srckeypass -destkeypass -new",
    ),
    ("apksigner", "", "--ks-pass --key-pass"),
    ("signtool osslsigncode", "", "/p -pass"),
    ("ssh-keygen", "", "-N -P"),
    ("security", "", "-w -p -P -k"),
    ("xcrun altool notarytool", "", "-p --password"),
    (
        "htpasswd",
        "",
        "-b>>> -nb>>> -bc>>> -cb>>> -nbB>>> -bB>>> -Bb>>> -Bbn>>> -nbm>>> -bn>>> -cbB>>> -Bbc>>> -bBc>>> -Bnb>>> -bnB>>> -nBb>>> -bD>>>",
    ),
    ("useradd usermod adduser", "", "-p"),
    ("mkpasswd openvpn wpa_passphrase", "", "mkpasswd> wpa_passphrase>>"),
    ("smbpasswd chpasswd kadmin kadmin.local kinit", "", "-w -pw"),
    ("nmcli iwconfig wpa_cli iw", "", "password> key> psk> wifi-sec.psk> 802-11-wireless-security.psk>"),
    ("rabbitmqctl", "", "add_user>> change_password>> authenticate_user>>"),
    ("mosquitto_pub mosquitto_sub mosquitto_rr mosquitto_passwd mqttx", "", "-P -pw -b>>"),
    ("rclone", "", "obscure> pass> password> key> secret_access_key> token>"),
    ("mc mcli", "", "set>>>> add>>>>"),
    ("s3cmd s4cmd", "", "--access_key --secret_key --access_token"),
    (
        "aws aws-vault",
        "",
        "--value --secret-string --password --secret-access-key --master-user-password --auth-token --user-data",
    ),
    ("az", "", "-p --value --admin-password --account-key --sas-token --secrets"),
    ("gcloud bq gsutil", "", "--access-token --password --data"),
    ("vault bao", "", "*= login> unseal> unwrap> -token"),
    ("consul nomad boundary", "", "put>> -token"),
    ("etcdctl", "", "--user: passwd>"),
    ("kubectl oc k kubecolor microk8s k3s", "", "--from-literal= --docker-password --token --password"),
    ("oc", "login", "-p"),
    ("argocd flux kubeseal rancher", "", "--password --auth-token --from-literal="),
    ("helm", "", "--password"),
    ("kubeadm", "", "--token --certificate-key create>"),
    ("ansible-vault", "encrypt_string", "encrypt_string>"),
    ("ansible ansible-playbook ansible-vault", "", "--vault-password"),
    ("terraform tofu pulumi", "", "-backend-config="),
    ("pulumi", "config", "set>> --secret>>"),
    ("heroku", "", "*="),
    ("fly flyctl", "secrets", "*="),
    ("railway render vercel netlify eb dokku supabase", "", "-t --token --auth *="),
    ("gh hub glab", "", "-b --body --token --with-token"),
    ("gh", "secret", "-b --body"),
    ("git git-credential hub jj", "", "http.extraheader> user.password>"),
    ("svn svnadmin", "", "--password"),
    ("hg bzr", "", "--password"),
    ("twine uv flit hatch poetry pdm", "", "-p -a -t"),
    ("poetry composer", "", "http-basic>>> bearer>>"),
    ("npm yarn pnpm npx bun", "", "_authToken> _password> _auth> --otp -otp"),
    ("gem", "", "-k --key --otp"),
    ("cargo", "login", "login>"),
    ("cargo", "", "--token"),
    ("nuget dotnet choco", "", "-k -p -ApiKey -Password setapikey> setApiKey>"),
    ("conan", "", "-p user>>"),
    ("pip pip3 pipx conda mamba anaconda", "", "-t --token"),
    ("doctl hcloud linode-cli scw civo exo", "", "-t --access-token secret-key="),
    (
        "codecov codecovcli coveralls sentry-cli snyk sonar-scanner fossa",
        "",
        "-t auth> --auth-token -Dsonar.login",
    ),
    (
        "ngrok cloudflared tailscale zerotier-cli",
        "",
        "authtoken> add-authtoken> --authkey --auth-key --authtoken --token",
    ),
    ("bw op lpass keepassxc-cli keybase secret-tool", "", "unlock> --session login>> --code --password"),
    ("keepassxc-cli", "", "-p"),
    ("restic borg duplicity duply kopia rdiff-backup", "", "--password --repo-password"),
    ("yt-dlp youtube-dl gallery-dl streamlink", "", "-p --video-password --ap-password -2"),
    (
        "jboss-cli.sh add-user.sh asadmin wsadmin.sh kcadm.sh kafka-configs.sh standalone.sh",
        "",
        "-p -password",
    ),
    ("swaks sendemail msmtp mailx mutt s-nail", "", "-ap -xp --auth-password -ap -s!"),
    ("ncat nc socat", "", "--proxy-auth:"),
    ("radtest", "", "radtest>>"),
    ("influxd telegraf grafana-cli grafana", "", "reset-admin-password> -t"),
    ("jenkins-cli jenkins-cli.jar java", "", "-auth:"),
    ("expect autoexpect", "", "send>"),
    ("cryptsetup veracrypt truecrypt", "", "-p --password -k!"),
    (
        "pkcs11-tool pkcs15-tool yubico-piv-tool ykman p11tool softhsm2-util",
        "",
        "-p -P -k --pin --so-pin -n --puk",
    ),
    ("certutil pk12util modutil", "", "-W -K -w"),
    ("7zip winrar", "", "-p -hp"),
    ("net", "", "user>>"),
    ("passwd mkpasswd", "", ""),
    ("pgpool pg_md5", "", "pg_md5>"),
    ("caddy traefik", "", "--plaintext"),
    ("ldapvi dovecot doveadm", "", "-p -w"),
    ("wg", "", "private-key> preshared-key>"),
    ("stripe twilio sfdx sf heroku-cli", "", "-k -t -p -s"),
    ("msbuild xbuild", "", ""),
    // Where `-i`, `-u` and `-k` say something else.
    (
        "sed perl grep egrep rg ls rm cp mv cat patch xargs ffmpeg ffprobe gcc g++ cc clang ld pip pip3 twine ansible tee",
        "",
        "-i!",
    ),
    ("ssh scp sftp ssh-copy-id rsync mosh ansible-playbook", "", "-i!"),
    ("sort tar make cut sudo doas su runuser id chown ps python python3 sh bash", "", "-k! -u! -i!"),
    (
        "mysql mysqldump mysqladmin mariadb docker podman diff patch sort journalctl systemctl git touch date",
        "",
        "-u! -i!",
    ),
];

/// What follows an option or a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A secret.
    Secret,
    /// `user:secret`.
    User,
    /// `name=secret`.
    Pair,
    /// No secret.
    Plain,
}

/// One thing that a row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Says {
    /// An option and its value; whether only an attached one counts.
    Option { name: &'static str, takes: Takes, attached: bool },
    /// A word, and how many that follow it are secrets or stand before one.
    Word { word: &'static str, after: usize },
    /// After this word all are secrets.
    AllAfter(&'static str),
    /// In each `name=value` the value is one.
    AllPairs,
    /// Words are `user/secret@place`.
    Logon,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Row {
    /// The word that must have come before; empty: none.
    pub(super) needs: &'static str,
    /// What is secret.
    pub(super) says: Vec<Says>,
}

static ROWS: LazyLock<HashMap<&'static str, Vec<Row>>> = LazyLock::new(|| {
    let mut rows: HashMap<&'static str, Vec<Row>> = HashMap::new();
    for (programs, needs, says) in TABLE {
        for program in programs.split(' ') {
            let says = says.split_whitespace().map(read).collect();
            rows.entry(program).or_default().push(Row { needs, says });
        }
    }
    rows
});

fn read(text: &'static str) -> Says {
    if text == "*=" {
        return Says::AllPairs;
    }
    if text == "@:" {
        return Says::Logon;
    }
    if let Some(word) = text.strip_suffix('*') {
        return Says::AllAfter(word);
    }
    let word = text.trim_end_matches('>');
    if word.len() < text.len() {
        return Says::Word { word, after: text.len() - word.len() };
    }
    let name = text.trim_end_matches(['+', ':', '=', '!']);
    let takes = match text.chars().last() {
        Some(':') => Takes::User,
        Some('=') => Takes::Pair,
        Some('!') => Takes::Plain,
        _ => Takes::Secret,
    };
    Says::Option { name, takes, attached: text.ends_with('+') }
}

/// The rows of a program, by a word that may be its path.
pub(super) fn of(word: &str) -> &'static [Row] {
    let name = word.rsplit(['/', '\\']).next().unwrap_or(word);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let found = ROWS.get(name).or_else(|| {
        // `mysql-8.0`, `python3.11`.
        let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
        ROWS.get(plain).filter(|_| !plain.is_empty() && plain.len() < name.len())
    });
    found.map_or(&[], Vec::as_slice)
}
