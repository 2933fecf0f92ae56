"""The forms of admins, accounts and tokens: fields, labels, help. The services check the values."""

from flask_wtf import FlaskForm
from wtforms import EmailField, PasswordField, SelectField, SelectMultipleField, StringField
from wtforms.fields.choices import SelectChoice  # type: ignore[attr-defined]  # newer than the stubs
from wtforms.validators import InputRequired
from wtforms.widgets import CheckboxInput

from app.config import PASSWORD_LENGTH
from app.models.api_tokens import SCOPES
from app.services.people.tokens import NAME_LENGTH
from app.web.forms import TYPED_BY_HAND
from app.web.settings.settings_forms import password_again

NEW = {"autocomplete": "new-password", "minlength": PASSWORD_LENGTH}
LENGTH_HELP = f"At least {PASSWORD_LENGTH} characters. A few words that don’t belong together are easy to remember."
NOT_THE_SAME = "These are two different passwords. Type the new one twice."
LASTS = {
    "365": "after a year",
    "90": "after 90 days",
    "30": "after 30 days",
    "7": "after a week",
    "0": "only when it is revoked",
}
SCOPE_WORDS = {
    "read": "view everything: backups, schedules, settings, statistics",
    "backup": "create, download, upload, change and delete backups, and run schedules",
    "restore": "replace the live database and documents with a backup",
    "admin": "do everything, including changing settings, admins and tokens",
}


class InviteForm(FlaskForm):
    email = EmailField(
        "Their email address",
        [InputRequired("Enter the address of the person to invite.")],
        render_kw=TYPED_BY_HAND,
    )
    password = password_again()


class NewPasswordForm(FlaskForm):
    """A password typed twice; `again` is compared here, since services never see it."""

    new_password = PasswordField("New password", description=LENGTH_HELP, render_kw=NEW)
    again = PasswordField("New password, again", render_kw={"autocomplete": "new-password"})

    def validate(self, extra_validators: object = None) -> bool:
        """Validate the form, and require both passwords to be the same."""
        right: bool = super().validate(extra_validators)
        if right and self.new_password.data != self.again.data:
            self.again.errors = [NOT_THE_SAME]
            return False
        return right


class AcceptForm(NewPasswordForm):
    pass


class ChangePasswordForm(NewPasswordForm):
    password = PasswordField("Current password", render_kw={"autocomplete": "current-password"})


class TokenForm(FlaskForm):
    name = StringField(
        "Name",
        description="What it is for, for example “nightly copy to the NAS”.",
        render_kw={"maxlength": NAME_LENGTH, "autocomplete": "off"},
    )
    scopes = SelectMultipleField(
        "It may", choices=[SelectChoice(value=scope, label=scope) for scope in SCOPES], option_widget=CheckboxInput()
    )
    days = SelectField("It ends", choices=[SelectChoice(value=value, label=label) for value, label in LASTS.items()])
    password = password_again()

    def lasts(self) -> int | None:
        """Return the number of days until the token expires; None: never."""
        return int(self.days.data) or None
