"""What requests hold and answers look like where it is about people, organizations and keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api.permissions import SCOPES, permissions_of
from api.schemas import Body, Name, Query, Role, exact_id
from common.channels.email import MailAddress
from common.domain.errors import FieldError
from common.domain.weak_passwords import LEAST_CHARACTERS, MOST_CHARACTERS, weakness
from common.passwords import MAX_PASSWORD_BYTES

Id = Annotated[str, AfterValidator(exact_id), Field(max_length=36, json_schema_extra={"format": "uuid"})]

#: As it is asked for at a login: rules are for new ones.
Password = Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_BYTES)]
NewPassword = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_PASSWORD_BYTES,
        description=f"{LEAST_CHARACTERS} to {MOST_CHARACTERS} characters of any kind; none that everybody tries.",
    ),
]

#: A one-time token, or a sealed registration, which is longer.
Token = Annotated[str, Field(min_length=1, max_length=4_096)]

#: A name for people, or none.
PersonName = Annotated[str, Field(max_length=200)]


class Login(Body):
    """An address and its password; for whom, when the user belongs to several organizations."""

    email: Annotated[str, Field(min_length=1, max_length=320)]
    password: Password
    organization_id: Annotated[Id | None, Field(description="Default: the one where they have been longest.")] = None


class Tokens(BaseModel):
    """A session's tokens; `expires_in` is the access token's, in seconds."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"]
    expires_in: int


class SwitchIn(Body):
    """Another organization that the caller belongs to."""

    organization_id: Id


class RegistrationIn(Body):
    """A new user with an organization of their own."""

    email: MailAddress
    password: NewPassword
    name: Name
    organization: Name

    def problems(self) -> Iterator[FieldError]:
        """A password that will do."""
        wrong = weakness(self.password, self.email)
        if wrong is not None:
            yield FieldError("password", wrong)


class TokenIn(Body):
    """A token out of a mail."""

    token: Token


class PasswordChange(Body):
    """The password as it is, and as it shall be."""

    current: Password
    new: NewPassword


class ForgottenPassword(Body):
    """Whose password is forgotten."""

    email: Annotated[str, Field(min_length=1, max_length=320)]


class PasswordReset(Body):
    """The token out of the mail, and the new password."""

    token: Token
    new: NewPassword


class User(BaseModel):
    """A person."""

    id: str
    email: str
    name: str


class Member(User):
    """A person as a member of the organization."""

    role: Role
    enabled: bool
    created_at: datetime


class Membership(BaseModel):
    """Who belongs to the organization, as what, since when."""

    user_id: str
    email: str
    name: str
    role: Role
    created_at: datetime


class MembershipIn(Body):
    """The role that a member shall have."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"user_id", "email", "name", "created_at"})

    role: Role


class KeyIdentity(BaseModel):
    """An API key as the one who calls."""

    id: str
    name: str
    prefix: str


class Organization(BaseModel):
    """A tenant."""

    id: str
    name: str
    created_at: datetime


class OrganizationIn(Body):
    """What its members may change of their organization."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "created_at"})

    name: Name


class OwnMembership(BaseModel):
    """An organization that the caller belongs to, and as what."""

    id: str
    name: str
    role: Role


class Me(BaseModel):
    """Who is calling, for whom, what they may do, and where else they belong."""

    user: User | None
    api_key: KeyIdentity | None
    organization: Organization
    role: Role
    permissions: list[str]
    organizations: list[OwnMembership]


class InviteIn(Body):
    """Whom to invite, and as what: at most as what the caller is."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "created_by", "created_at", "expires_at"})

    email: MailAddress
    role: Role = "viewer"


class Invite(BaseModel):
    """An open invitation without its token."""

    id: str
    email: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime


class NewInvite(Invite):
    """An invitation as it is shown once, at creation. `mailed`: the token is on its way to the address as well."""

    token: str
    mailed: bool


class AcceptIn(Body):
    """The invitation's token. A new user says a password and, if they like, a name.

    Who has an account proves it: by their session (send its access token), or by its password.
    """

    token: Token
    password: NewPassword | None = None
    name: PersonName = ""


class ApiKeyIn(Body):
    """A key to make; its role is at most the maker's own, its scopes a part of what that role may do."""

    READ_ONLY: ClassVar[frozenset[str]] = frozenset({"id", "prefix", "created_by", "created_at", "last_used_at", "key"})

    name: Name
    role: Role = "editor"
    scopes: Annotated[
        list[str] | None,
        Field(
            min_length=1,
            max_length=len(SCOPES),
            description="Permissions that the key is limited to; null: everything that its role may do.",
            json_schema_extra={"examples": [["monitors:read", "alerts:write"]]},
        ),
    ] = None
    expires_in_days: Annotated[int | None, Field(ge=1, le=3650, description="null: it does not expire.")] = None

    def problems(self) -> Iterator[FieldError]:
        """Scopes that are there, and within the role."""
        for index, scope in enumerate(self.scopes or ()):
            if scope not in SCOPES:
                yield FieldError(f"scopes.{index}", f"must be one of {', '.join(SCOPES)}")
            elif scope not in permissions_of(self.role):
                yield FieldError(f"scopes.{index}", f"the role {self.role} does not have it")


class ApiKey(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    role: Role
    scopes: list[str] | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewApiKey(ApiKey):
    """A key as it is shown once, at creation."""

    key: str


class CallbackQuery(Query):
    """What the provider sends back; RFC 9207 adds `iss`, some add more, of which we need nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: Annotated[str | None, Field(max_length=4_096)] = None
    state: Annotated[str | None, Field(max_length=1_024)] = None
    error: Annotated[str | None, Field(max_length=1_024)] = None
    iss: Annotated[str | None, Field(max_length=1_024)] = None
