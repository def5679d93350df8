"""Whether lines leave this host without their secrets, tried with lines that have some."""

from __future__ import annotations

from rocksalt import logstash
from rocksalt.findings import Seen
from rocksalt.logstash.facts import Facts, read_json
from rocksalt.logstash.shipping.mask import Masker

_NAMED = "what-nobody-else-may-know-3f1c"
CANARIES = {
    "a password in a setting": (f"login failed, password={_NAMED}", _NAMED),
    "a password on a command line": (f"COMMAND=/usr/bin/x --password {_NAMED}", _NAMED),
    "a password in a variable": (f"DB_PASSWORD={_NAMED}", _NAMED),
    "a password of PostgreSQL": (f"PGPASSWORD={_NAMED} psql -h db1", _NAMED),
    "a password of MySQL": (f"MYSQL_PWD={_NAMED} mysqldump app", _NAMED),
    "a password of mysql's option": (f"COMMAND=/usr/bin/mysql -u root -p{_NAMED} app", _NAMED),
    "a password of curl's option": (f"curl -s -u ann:{_NAMED} https://x.test/", _NAMED),
    "a password with a space": (f'password="my {_NAMED}"', _NAMED),
    "a password with a comma": (f"password=my,{_NAMED}", _NAMED),
    "a password in JSON": (f'{{"user": "ann", "password": "{_NAMED}"}}', _NAMED),
    "a password in JSON in JSON": (f'{{"body": "{{\\"password\\": \\"{_NAMED}\\"}}"}}', _NAMED),
    "a password in LDIF": (f"userPassword:: {_NAMED}", _NAMED),
    "a password in an address": (f"connect to postgres://app:{_NAMED}@db1/app", _NAMED),
    "a password without a user in an address": (f"redis://:{_NAMED}@cache1:6379/0", _NAMED),
    "a password with an @ in an address": (f"redis://:my@{_NAMED}@cache1:6379/0", _NAMED),
    "a token in an address": (f"cloning https://{_NAMED}@github.com/acme/app.git", _NAMED),
    "a token in a variable": (f"VAULT_TOKEN={_NAMED} vault kv get x", _NAMED),
    "a token in JSON": (f'{{"access_token":"{_NAMED}","expires_in":3600}}', _NAMED),
    "a bearer token": (f"Authorization: Bearer {_NAMED}", _NAMED),
    "a token of another scheme": (f"Authorization: Token {_NAMED}", _NAMED),
    "a JSON web token": (
        "session eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJlLW9m begins",
        "eyJzdWIiOiIxMjM0NTYifQ",
    ),
    "a secret of a client": (f"grant_type=x&client_secret={_NAMED}&scope=y", _NAMED),
    "a password in SQL": (f"ALTER ROLE app WITH PASSWORD '{_NAMED}'", _NAMED),
    "a password of a new user in SQL": (f"CREATE USER app IDENTIFIED BY '{_NAMED}'", _NAMED),
    "a password set in SQL": (f"SET PASSWORD FOR app = PASSWORD('{_NAMED}')", _NAMED),
    "a password for somebody": (f"Password for ann: {_NAMED}", _NAMED),
    "a cookie": (f"Cookie: theme=dark; sessionid={_NAMED}", _NAMED),
    "a cookie that is set": (f"Set-Cookie: sid={_NAMED}; Path=/; HttpOnly", _NAMED),
    "a signature in an address": (f"GET /x?sv=2026&sig={_NAMED}&sp=r", _NAMED),
    "a key in an address": (f"GET /maps?key={_NAMED}", _NAMED),
    "a password of useradd's option": (f"COMMAND=/usr/sbin/useradd -p {_NAMED} bob", _NAMED),
    "a password of docker's option": (f"docker login -u ann -p {_NAMED} reg.test", _NAMED),
    "a password of mongo's option": (f"mongosh -u ann -p {_NAMED} app", _NAMED),
    "a password of ldapsearch's option": (f"ldapsearch -x -w {_NAMED} -D cn=ann", _NAMED),
    "a password of redis-cli's option": (f"redis-cli -a {_NAMED} ping", _NAMED),
    "a password of ipmitool's option": (f"ipmitool -U ann -P {_NAMED} power status", _NAMED),
    "a password of smbclient's option": (f"smbclient -U ann%{_NAMED} //files/x", _NAMED),
    "a password of snmpwalk's option": (f"snmpwalk -v3 -A x1 -x AES -X {_NAMED} h", _NAMED),
    "a token of curl's option": (f"curl --oauth2-bearer {_NAMED} https://x.test/", _NAMED),
    "a private key": (
        f"-----BEGIN PRIVATE KEY-----\n{_NAMED}\n-----END PRIVATE KEY-----",
        _NAMED,
    ),
    "a private key of PGP": (
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n{_NAMED}\n-----END PGP PRIVATE KEY BLOCK-----",
        _NAMED,
    ),
    "an access key of a cloud": ("key AKIAABCDEFGHIJKLMNOP is used", "AKIAABCDEFGHIJKLMNOP"),
    "a secret key of a cloud": (f"AWS_SECRET_ACCESS_KEY={_NAMED} aws s3 ls", _NAMED),
}
"""What a line looks like that has a secret, and the secret."""
_SHOWN = 4


def seen(it: Facts) -> Seen:
    """Of the expressions in the configuration that the shipper has on the disk."""
    found = read_json(it.host, logstash.SHIPPER_CONFIG)
    if found is None:
        return Seen(problem="error", reason=f"{logstash.SHIPPER_CONFIG} cannot be read")
    masker = Masker(found.get("mask") or [])
    leaves = [
        what for what, (line, secret) in CANARIES.items() if secret in masker.mask(line)
    ]  # fmt: skip
    same = found.get("mask") == [*it.setup.settings["mask"]]
    where = it.setup.family.where("mask") if same else logstash.SHIPPER_CONFIG
    more = f" and {len(leaves) - _SHOWN} more" if len(leaves) > _SHOWN else ""
    why = f"{where} lets out {', '.join(leaves[:_SHOWN])}{more}" if leaves else ""
    return Seen(leaves, why, remedy="manual" if same and leaves else "")
