# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts of Dioptra, with passwords that expire after a year."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import AS_DECLARED, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.client import Dioptra

VALID_DAYS = 365  # validity of each password in the API (DAYS_TO_EXPIRE_PASSWORD_DEFAULT of Dioptra 1.2.2)
MAX_RENEW_DAYS = VALID_DAYS - 2  # a new password has one whole day less left than its validity
SECONDS_A_DAY = 24 * 60 * 60
HELPER = "mlfleet-renewal-"
SAME_PASSWORD = "New password matches old password."


@dataclass
class Account:
    """A declared account, and what the API reveals about it."""

    declared: dict
    api: Dioptra  # signed in, unless its password has expired
    id: int
    days_left: int = 0
    password: str = ""  # its actual password, if that is not the declared one

    @property
    def name(self) -> str:
        return self.declared["name"]

    @property
    def object(self) -> str:
        return f"user {self.name}"


def passing_password(user: dict) -> str:
    """Return the temporary password during a renewal; the run after a killed one can derive it too."""
    return hmac.new(user["password"].encode(), f"mlfleet {user['name']}".encode(), hashlib.sha256).hexdigest()


def former_passwords(user: dict) -> list[str]:
    return [passing_password(user), *filter(None, [user.get("previous_password")])]


def wrong_password(name: str) -> str:
    return (
        f"user {name}: it exists, but with another password; declare that one as previous_password, "
        "or sign in and change it (POST /api/v1/users/current/password)"
    )


def create_user(api: Dioptra, user: dict) -> bool:
    """Register the account and sign in. Return False if its name is taken; raise ServiceError if its e-mail is."""
    name, password = user["name"], user["password"]
    body = {"username": name, "email": user["email"], "password": password, "confirmPassword": password}
    answer = api.ask("POST", "/users/", body)
    if answer.status == 409:
        taken = answer.data.get("detail", {}).get("entity_attributes", {})
        if "email_address" in taken:
            raise ServiceError(
                f"user {name}: another account has the e-mail address {user['email']}; declare one of its own"
            )
        return False
    if answer.status >= 400:
        raise ServiceError(f"user {name}: the API refused it with {answer.status}: {answer.reason}")
    if not api.signs_in(name, password):
        raise ServiceError(f"user {name}: created, but cannot sign in")
    return True


def change_password(api: Dioptra, account: Account, old: str, new: str) -> None:
    """Change the password, which signs out all of the account's sessions, including this one if it is one of them."""
    body = {"oldPassword": old, "newPassword": new, "confirmNewPassword": new}
    answer = api.ask("POST", f"/users/{account.id}/password", body)
    if answer.status >= 400:
        raise ServiceError(f"{account.object}: the API refused a change of its password: {answer.reason}")
    if not account.api.signs_in(account.name, new):
        raise ServiceError(f"{account.object}: its password was changed, but it cannot sign in")


def has_password(api: Dioptra, number: int, password: str) -> bool:
    """Return whether an account has this password, expired or not: the API refuses to change it to itself."""
    body = {"oldPassword": password, "newPassword": password, "confirmNewPassword": password}
    return api.ask("POST", f"/users/{number}/password", body).reason.endswith(SAME_PASSWORD)


def own_account(options: dict, user: dict, password: str) -> Account | None:
    """Return the account from its own session; None if it cannot sign in."""
    api = Dioptra(options)
    if not api.signs_in(user["name"], password):
        return None
    current = api.call("GET", "/users/current")
    left = datetime.fromisoformat(current["passwordExpiresOn"])
    left = left if left.tzinfo else left.replace(tzinfo=UTC)
    days = int((left - datetime.now(UTC)).total_seconds() // SECONDS_A_DAY)
    return Account(user, api, current["id"], days, "" if password == user["password"] else password)


def other_account(options: dict, user: dict, someone: Dioptra) -> Account | None:
    """Return the account as seen by another one, because it cannot sign in itself; None if there is none."""
    found = someone.find("/users/", user["name"], field="username")
    if found is None:
        return None
    for password in (user["password"], *former_passwords(user)):
        if has_password(someone, found["id"], password):
            return Account(user, Dioptra(options), found["id"], -1, "" if password == user["password"] else password)
    raise ServiceError(wrong_password(user["name"]))


def find_accounts(options: dict, users: list[dict], someone: Dioptra | None = None) -> dict[str, Account]:
    """Return the existing accounts. Only a signed-in account can look up others; an empty API just answers "no"."""
    found = {}
    for user in users:
        for password in (user["password"], *former_passwords(user)):
            if account := own_account(options, user, password):
                found[user["name"]] = account
                break
    if someone := someone or next((account.api for account in found.values()), None):
        for user in users:
            if user["name"] not in found and (account := other_account(options, user, someone)):
                found[user["name"]] = account
    return found


def reopen(account: Account, someone: Dioptra | None) -> None:
    """Let another account change an expired password, which its owner cannot; the owner can do the rest."""
    if someone is None:
        raise ServiceError(f"{account.object}: its password has expired, and no other account can change it")
    passing = passing_password(account.declared)
    old = account.password or account.declared["password"]
    new = account.declared["password"] if old == passing else passing
    change_password(someone, account, old, new)
    account.password = "" if old == passing else passing
    account.days_left = VALID_DAYS


def renew(account: Account) -> None:
    """Renew the declared password for another year, in two changes; the API refuses to change it to itself."""
    declared = account.declared["password"]
    if not account.password:
        account.password = passing_password(account.declared)
        change_password(account.api, account, declared, account.password)
    change_password(account.api, account, account.password, declared)


def helper_password(user: dict) -> str:
    return hmac.new(user["password"].encode(), HELPER.encode(), hashlib.sha256).hexdigest()


def make_helper(options: dict, user: dict) -> Dioptra:
    """Create a temporary account if all others have expired. The API never reuses a name, so each has a new one."""
    name, api = f"{HELPER}{secrets.token_hex(4)}", Dioptra(options)
    email = f"{name}@{user['email'].rpartition('@')[2]}"
    create_user(api, {"name": name, "email": email, "password": helper_password(user)})
    return api


def remove_helpers(options: dict, user: dict, someone: Dioptra) -> None:
    password = helper_password(user)
    for name in [other["username"] for other in someone.pages("/users/") if other["username"].startswith(HELPER)]:
        api = Dioptra(options)
        if api.signs_in(name, password):
            api.call("DELETE", "/users/current", {"password": password})


def remove(account: Account, someone: Dioptra | None) -> None:
    """Let the account delete itself, as the API requires; an expired password is changed first."""
    if account.days_left < 0:
        reopen(account, someone)
    account.api.call("DELETE", "/users/current", {"password": account.password or account.declared["password"]})


class Users(document.Document):
    """The accounts that must exist, followed by those that must not."""

    def __init__(self, options: dict, check_mode: bool) -> None:
        self.options, self.check_mode = options, check_mode
        self.present, self.absent = (
            [user for user in options["users"] if user["state"] == state] for state in ("present", "absent")
        )
        self.accounts: dict[str, Account] = {}  # those that exist
        self.made: list[dict] = []  # those that were created while reading
        self.opener: Dioptra | None = None  # session of a new account, if none of them could sign in
        self.has_helper = False
        if not 0 <= options["renew_days"] <= MAX_RENEW_DAYS:
            given = f"renew_days {options['renew_days']}"
            raise ServiceError(f"{given}: it must be from 0 to {MAX_RENEW_DAYS}, because a password lasts a year")

    @property
    def someone(self) -> Dioptra | None:
        """A session, because only a signed-in account can see others."""
        return next((account.api for account in self.accounts.values() if account.days_left >= 0), self.opener)

    def find(self) -> document.Found:
        self.accounts = find_accounts(self.options, self.present)
        if self.present and not self.accounts and not self.check_mode:
            self.open()
        leaving = find_accounts(self.options, self.absent, self.someone)
        states = {account.object: {"password": told(account)} for account in self.accounts.values()}
        states |= {account.object: {"email": account.declared["email"]} for account in leaving.values()}
        self.accounts |= leaving
        return document.Found(states, self.undeclared())

    def open(self) -> None:
        """Find out by registering the first account whether there are no accounts, or all have expired."""
        self.opener = Dioptra(self.options)
        if create_user(self.opener, self.present[0]):
            self.made = self.present[:1]
        else:
            self.opener, self.has_helper = make_helper(self.options, self.present[0]), True
        self.accounts = find_accounts(self.options, self.present, self.opener)

    def undeclared(self) -> list[dict[str, str]]:
        """Return other accounts. No command removes them; with its password, an account can be declared absent."""
        names = {user["name"] for user in self.options["users"]}
        others = [user["username"] for user in self.someone.pages("/users/")] if self.someone else []
        return [stray("Dioptra account", name) for name in others if name not in names and not name.startswith(HELPER)]

    def compare(self, found: Mapping[str, dict]) -> Iterator[document.Change]:
        accounts = [self.accounts[user["name"]] for user in self.present if user["name"] in self.accounts]
        due, self.warnings = sort_out(accounts, self.options["renew_days"])
        are_due = {account.name for account in due}
        for user in self.present:
            name, have = f"user {user['name']}", found.get(f"user {user['name']}")
            if have is None or user in self.made:
                yield document.Change(name, None, {"email": user["email"], "password": AS_DECLARED}, user)
            elif user["name"] in are_due:
                yield document.Change(name, have, {"password": f"{AS_DECLARED}, for {VALID_DAYS} days"}, user)
        for user in self.absent:
            yield document.Change(f"user {user['name']}", found.get(f"user {user['name']}"), None, user)

    def apply(self, changes: list[document.Change]) -> None:
        for user in [change.item for change in changes if change.have is None]:
            if user not in self.made and not create_user(Dioptra(self.options), user):
                raise ServiceError(wrong_password(user["name"]))
        self.renew([self.accounts[change.item["name"]] for change in changes if change.have and change.want])
        leaving = [self.accounts[change.item["name"]] for change in changes if change.want is None]
        for account in sorted(leaving, key=lambda account: account.days_left):  # an expired one needs another account
            remove(account, self.someone)
            del self.accounts[account.name]

    def renew(self, due: list[Account]) -> None:
        for account in due:
            if account.days_left < 0:
                reopen(account, self.someone)
        # From here on all can sign in, so remove the helper now; before that, a killed run leaves it for the next one.
        if due:
            remove_helpers(self.options, self.present[0], due[0].api)
        for account in due:
            if account.password != "" or account.days_left < VALID_DAYS:
                renew(account)


def converge_users(options: dict, check_mode: bool) -> document.Result:
    users = Users(options, check_mode)
    try:
        return document.converge(users, check_mode)
    except ServiceError:
        if users.has_helper and users.opener:
            remove_helpers(options, users.present[0], users.opener)
        raise


def sort_out(accounts: list[Account], bound: int) -> tuple[list[Account], list[str]]:
    """Return the accounts that get their declared password (again), and the warnings about others."""
    due, warnings = [], []
    are_jobs_running = None
    for account in accounts:
        if account.password:
            due.append(account)
        elif account.days_left > bound:
            continue
        elif not account.declared["renew"]:
            if account.days_left < 0:
                raise ServiceError(f"{account.object}: its password has expired; renew: true renews it")
            warnings.append(f"{account.object}: {told(account)}, and it is not renewed here")
        elif account.days_left < 1:
            due.append(account)
        else:
            if are_jobs_running is None:
                are_jobs_running = account.api.has_running_jobs()
            if are_jobs_running:
                warnings.append(
                    f"{account.object}: {told(account)}; it is renewed on its last day, or by a run that finds no job "
                    "running, because jobs would be signed out"
                )
            else:
                due.append(account)
    return due, warnings


def told(account: Account) -> str:
    if account.password:
        return document.ANOTHER
    return f"expires in {account.days_left} days" if account.days_left >= 0 else "expired"
