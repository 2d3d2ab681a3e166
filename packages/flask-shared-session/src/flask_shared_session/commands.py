"""Commands for operators: `flask --app APP sessions ...`, with the settings of the app in the environment."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click
from flask.cli import AppGroup

from .errors import SessionStoreError
from .interface import current_store
from .store import Store

group = AppGroup("sessions", help="List and end sessions of all nodes.")
# a handle may start with a dash
_any_text = {"ignore_unknown_options": True}


@group.command("list", context_settings=_any_text)
@click.argument("user")
def list_(user: str) -> None:
    """Print a user's sessions: handle, created, last seen, address, node and browser, separated by tabs."""
    with _store() as store:
        for each in store.sessions_of(user):
            texts = (each.handle, _iso_time(each.created), _iso_time(each.seen), each.address, each.node, each.agent)
            click.echo("\t".join(map(_printable, texts)))


@group.command(context_settings=_any_text)
@click.argument("handle")
def end(handle: str) -> None:
    """End a session; `list` prints its handle."""
    with _store() as store:
        ended = store.end_session(handle)
        store.observer.ended("admin", ended)
        if not ended:
            raise click.ClickException("No session has this handle.")
    click.echo("Ended.")


@group.command(context_settings=_any_text)
@click.argument("user")
def end_user(user: str) -> None:
    """End all sessions of a user."""
    with _store() as store:
        _report(store, store.end_sessions(user))


@group.command()
@click.confirmation_option(prompt="Log out all users?")
def end_all() -> None:
    """End all sessions of all users."""
    with _store() as store:
        _report(store, store.end_everything())


@group.command()
def stats() -> None:
    """Print the numbers of sessions and users."""
    with _store() as store:
        for name, number in store.count()._asdict().items():
            click.echo(f"{name}\t{number}")


def _report(store: Store, ended: int) -> None:
    store.observer.ended("admin", ended)
    click.echo(f"Ended: {ended}")


@contextmanager
def _store() -> Iterator[Store]:
    try:
        yield current_store()
    except SessionStoreError as error:
        raise click.ClickException("The session store is unavailable.") from error


def _printable(text: str) -> str:
    """Replace control characters: the client chooses its User-Agent, which must not control the terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _iso_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
