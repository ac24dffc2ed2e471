"""How people sign in: what went wrong, in words that say what to do."""

from __future__ import annotations

from typing import ClassVar

from unfold.forms import AuthenticationForm


class SignInForm(AuthenticationForm):
    error_messages: ClassVar[dict[str, str]] = {
        **AuthenticationForm.error_messages,
        # Which of them it was is told to nobody.
        "invalid_login": "This name and password do not go together, or the desk is not open to "
        "them. Capital and small letters are not the same. Try again, or ask whoever looks after "
        "users.",
    }
