"""Rules about Slurm accounts, and users in them."""

from collections.abc import Iterator

from hpcli.spec.model import Spec
from hpcli.spec.problems import Finding, show
from hpcli.spec.rules.rule import Limits, Rule, close, doubles

ROOT = "root"
"""The account that every Slurm has."""

_NEEDS = "accounting: {enabled: true}, which knows accounts"


def _accounting_needed(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.accounting.enabled or spec.provider == "local":
        return
    if spec.accounts:
        yield Finding(("accounts",), "accounts without accounting", _NEEDS)
    for i, user in enumerate(spec.users):
        if user.account is not None:
            yield Finding(("users", i, "account"), "an account without accounting", _NEEDS)
        if user.admin != "none":
            yield Finding(("users", i, "admin"), f"{show(user.admin)} without accounting", _NEEDS)


def _database_unused(spec: Spec, _: Limits) -> Iterator[Finding]:
    if spec.accounting.database and not spec.accounting.enabled and spec.provider != "local":
        yield Finding(("accounting", "database"), "a database without accounting", "accounting: {enabled: true}")


def _unique_accounts(spec: Spec, _: Limits) -> Iterator[Finding]:
    yield from doubles(("accounts",), "name", "account", [account.name for account in spec.accounts])
    for i, account in enumerate(spec.accounts):
        if account.name == ROOT:
            yield Finding(("accounts", i, "name"), show(ROOT), "another name: every Slurm has this account")


def _known_accounts(spec: Spec, _: Limits) -> Iterator[Finding]:
    names = list(dict.fromkeys(account.name for account in spec.accounts if account.name != ROOT))
    expected = f"one of accounts ({', '.join(names)}), or {ROOT}" if names else f"{ROOT}: accounts is empty"
    for i, account in enumerate(spec.accounts):
        if account.parent is not None and account.parent not in (*names, ROOT):
            found = f"unknown account {show(account.parent)}"
            yield Finding(("accounts", i, "parent"), found, expected, close(account.parent, names))
    for i, user in enumerate(spec.users):
        if user.account is not None and user.account not in (*names, ROOT):
            found = f"unknown account {show(user.account)}"
            yield Finding(("users", i, "account"), found, expected, close(user.account, names))


def _no_cycle(spec: Spec, _: Limits) -> Iterator[Finding]:
    above = {account.name: account.parent for account in spec.accounts}
    told: set[str] = set()
    for i, account in enumerate(spec.accounts):
        chain = _upwards(account.name, above)
        if chain[-1] == account.name and len(chain) > 1 and account.name not in told:
            told.update(chain)
            yield Finding(("accounts", i, "parent"), f"a circle: {' below '.join(chain)}", "a tree of accounts")


def _upwards(name: str, above: dict[str, str | None]) -> list[str]:
    """Follow the parents up to the top, or to the first one met twice."""
    chain, here = [name], above.get(name)
    while here is not None:
        chain.append(here)
        if here in chain[:-1]:
            break
        here = above.get(here)
    return chain


RULES = (
    Rule(_accounting_needed, ("accounting", "provider", "accounts", "users.account")),
    Rule(_database_unused, ("accounting", "provider")),
    Rule(_unique_accounts, ("accounts.name",)),
    Rule(_known_accounts, ("accounts", "users.account")),
    Rule(_no_cycle, ("accounts",)),
)
