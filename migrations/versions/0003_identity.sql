-- Identity: invitations, password resets, identities of OIDC providers, scopes of keys.
SET LOCAL ROLE tocsin_owner;

-- Since when the address is known to be the user's own; NULL: whoever registered it only said so. Users of the version
-- before were made by the operator. A user without a password (password_hash '') comes in through a provider only.
ALTER TABLE users ADD COLUMN email_verified_at timestamptz DEFAULT now();

ALTER TABLE api_keys ADD COLUMN scopes text[] CHECK (cardinality(scopes) > 0);  -- NULL: all that its role may do

CREATE INDEX refresh_tokens_by_user ON refresh_tokens (user_id);

-- An open invitation is neither accepted nor revoked; its token is a secret of 256 random bits, shown once.
CREATE TABLE invites (
  id           uuid PRIMARY KEY,
  org_id       uuid NOT NULL REFERENCES organizations,
  email        text NOT NULL CHECK (email = lower(email)),
  role         text NOT NULL CHECK (role IN ('owner', 'admin', 'editor', 'viewer')),
  token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),  -- SHA-256
  created_by   text NOT NULL,                          -- actor: 'user:<id>' or 'api-key:<id>'
  created_at   timestamptz NOT NULL DEFAULT now(),
  expires_at   timestamptz NOT NULL,
  accepted_at  timestamptz,
  accepted_by  uuid,
  revoked_at   timestamptz,
  UNIQUE (org_id, id)
);
CREATE UNIQUE INDEX invites_one_open ON invites (org_id, email) WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invites_listed ON invites (org_id, created_at DESC, id DESC)
  WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invites_by_email ON invites (email) WHERE accepted_at IS NULL AND revoked_at IS NULL;

-- Without a user: somebody asked for an address that nobody has. That has to take as long as for one that is known.
CREATE TABLE password_resets (
  token_hash  bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),      -- SHA-256 of 256 random bits
  user_id     uuid REFERENCES users ON DELETE CASCADE,
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL,
  used_at     timestamptz
);
CREATE INDEX password_resets_by_user ON password_resets (user_id);
CREATE INDEX password_resets_by_expiry ON password_resets (expires_at);

-- Who a provider's user is here. A provider never gives a subject to a second person; an address it may.
CREATE TABLE identities (
  issuer         text NOT NULL,
  subject        text NOT NULL,
  user_id        uuid NOT NULL REFERENCES users ON DELETE CASCADE,
  created_at     timestamptz NOT NULL DEFAULT now(),
  last_login_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (issuer, subject),
  CONSTRAINT identities_one_each UNIQUE (user_id, issuer)
);

DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['invites', 'password_resets', 'identities'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY owner_all ON %I TO tocsin_owner USING (true) WITH CHECK (true)', t);
  END LOOP;
END $$;
CREATE POLICY tenant ON invites TO tocsin_api
  USING (org_id = (SELECT current_org())) WITH CHECK (org_id = (SELECT current_org()));

GRANT SELECT, INSERT, UPDATE ON invites TO tocsin_api;
-- All within the tenant policies: an organization is made by a transaction that stands in it already.
GRANT INSERT (id, name), UPDATE (name) ON organizations TO tocsin_api;
GRANT INSERT, UPDATE (role), DELETE ON memberships TO tocsin_api;

-- What is looked up or changed before the organization is known, or in all of a user's organizations: each by a secret,
-- an address or an id that the caller has to present.

-- The version before knows no scopes: it must not take a key for mightier than it is.
CREATE OR REPLACE FUNCTION auth_api_key(wanted_prefix text)
RETURNS TABLE (key_id uuid, org_id uuid, role text, key_hash bytea, expires_at timestamptz, last_used_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT k.id, k.org_id, k.role, k.key_hash, k.expires_at, k.last_used_at
    FROM api_keys k JOIN organizations o ON o.id = k.org_id
   WHERE k.prefix = wanted_prefix AND k.revoked_at IS NULL AND o.deleted_at IS NULL AND o.disabled_at IS NULL
     AND k.scopes IS NULL
$$;

CREATE FUNCTION auth_key(wanted_prefix text)
RETURNS TABLE (key_id uuid, org_id uuid, role text, scopes text[], key_hash bytea, expires_at timestamptz,
               last_used_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT k.id, k.org_id, k.role, k.scopes, k.key_hash, k.expires_at, k.last_used_at
    FROM api_keys k JOIN organizations o ON o.id = k.org_id
   WHERE k.prefix = wanted_prefix AND k.revoked_at IS NULL AND o.deleted_at IS NULL AND o.disabled_at IS NULL
$$;

-- Where a user is a member, the oldest membership first.
CREATE FUNCTION auth_memberships(wanted_user uuid) RETURNS TABLE (org_id uuid, name text, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT m.org_id, o.name, m.role
    FROM memberships m JOIN organizations o ON o.id = m.org_id JOIN users u ON u.id = m.user_id
   WHERE m.user_id = wanted_user AND o.deleted_at IS NULL AND o.disabled_at IS NULL AND u.disabled_at IS NULL
   ORDER BY m.created_at, m.org_id
$$;

CREATE FUNCTION auth_user(wanted text) RETURNS TABLE (user_id uuid, disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT u.id, u.disabled_at IS NOT NULL FROM users u WHERE u.email = lower(wanted)
$$;

-- A new user; nothing when the address is taken.
CREATE FUNCTION auth_add_user(new_user uuid, new_email text, new_name text, new_hash text, verified boolean)
RETURNS uuid
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  INSERT INTO users (id, email, name, password_hash, email_verified_at)
  VALUES (new_user, lower(new_email), new_name, new_hash, CASE WHEN verified THEN now() END)
  ON CONFLICT (email) DO NOTHING
  RETURNING id
$$;

-- Whether the password that was checked is still the user's. Until the transaction ends nobody changes it: a session
-- that is opened meanwhile is ended with the others, or not opened at all.
CREATE FUNCTION auth_hold_password(wanted_user uuid, checked_hash text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT true FROM users u
   WHERE u.id = wanted_user AND u.password_hash = checked_hash AND u.disabled_at IS NULL FOR SHARE
$$;

-- The same password under newer parameters.
CREATE FUNCTION auth_rehash(wanted_user uuid, checked_hash text, new_hash text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  UPDATE users SET password_hash = new_hash
   WHERE id = wanted_user AND password_hash = checked_hash AND disabled_at IS NULL
  RETURNING true
$$;

-- End every session of a user, in all organizations, but the one that is kept.
CREATE FUNCTION auth_end_sessions(wanted_user uuid, kept_family uuid) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  UPDATE users SET tokens_valid_after = clock_timestamp() WHERE id = wanted_user AND kept_family IS NULL;
  UPDATE refresh_tokens SET revoked_at = clock_timestamp()
   WHERE user_id = wanted_user AND family_id IS DISTINCT FROM kept_family AND revoked_at IS NULL;
$$;

-- A new password ends all other sessions and makes resets that are under way useless.
CREATE FUNCTION auth_set_password(wanted_user uuid, checked_hash text, new_hash text, kept_family uuid)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  UPDATE users SET password_hash = new_hash WHERE id = wanted_user AND password_hash = checked_hash;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  UPDATE password_resets SET used_at = clock_timestamp() WHERE user_id = wanted_user AND used_at IS NULL;
  PERFORM auth_end_sessions(wanted_user, kept_family);
  RETURN true;
END $$;

-- Ask for a reset. A row is written whoever asks; no more than five an hour reach one user.
CREATE FUNCTION auth_ask_reset(wanted text, new_hash bytea, lifetime_s integer)
RETURNS TABLE (user_id uuid, email text, name text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE found_id uuid; asked integer;
BEGIN
  SELECT u.id INTO found_id FROM users u WHERE u.email = lower(wanted) AND u.disabled_at IS NULL;
  SELECT count(*) INTO asked FROM password_resets r
   WHERE r.user_id = found_id AND r.created_at > clock_timestamp() - interval '1 hour';
  IF asked >= 5 THEN
    found_id := NULL;
  END IF;
  DELETE FROM password_resets r WHERE r.expires_at < clock_timestamp() - interval '1 day';
  INSERT INTO password_resets (token_hash, user_id, expires_at)
  VALUES (new_hash, found_id, clock_timestamp() + lifetime_s * interval '1 second');
  RETURN QUERY SELECT u.id, u.email, u.name FROM users u WHERE u.id = found_id;
END $$;

CREATE FUNCTION auth_reset(presented bytea) RETURNS TABLE (user_id uuid, email text, name text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT u.id, u.email, u.name FROM password_resets r JOIN users u ON u.id = r.user_id
   WHERE r.token_hash = presented AND r.used_at IS NULL AND r.expires_at > clock_timestamp() AND u.disabled_at IS NULL
$$;

-- Use a reset up: of two at once one gets the row. Whoever has its token can read the address's mail, or was given it
-- by the operator.
CREATE FUNCTION auth_use_reset(presented bytea, new_hash text) RETURNS uuid
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE found_id uuid;
BEGIN
  UPDATE password_resets r SET used_at = clock_timestamp()
   WHERE r.token_hash = presented AND r.used_at IS NULL AND r.expires_at > clock_timestamp()
  RETURNING r.user_id INTO found_id;
  UPDATE users u SET password_hash = new_hash, email_verified_at = coalesce(u.email_verified_at, now())
   WHERE u.id = found_id AND u.disabled_at IS NULL;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE password_resets r SET used_at = clock_timestamp() WHERE r.user_id = found_id AND r.used_at IS NULL;
  PERFORM auth_end_sessions(found_id, NULL);
  RETURN found_id;
END $$;

-- An open invitation, and the user who has its address already.
CREATE FUNCTION auth_invite(presented bytea)
RETURNS TABLE (invite_id uuid, org_id uuid, email text, role text, user_id uuid, password_hash text, disabled boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT i.id, i.org_id, i.email, i.role, u.id, u.password_hash, u.disabled_at IS NOT NULL
    FROM invites i JOIN organizations o ON o.id = i.org_id LEFT JOIN users u ON u.email = i.email
   WHERE i.token_hash = presented AND i.accepted_at IS NULL AND i.revoked_at IS NULL
     AND i.expires_at > clock_timestamp() AND o.deleted_at IS NULL AND o.disabled_at IS NULL
$$;

-- The oldest open invitation for an address that a provider vouches for.
CREATE FUNCTION auth_invite_of(wanted text) RETURNS TABLE (invite_id uuid, org_id uuid, role text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT i.id, i.org_id, i.role FROM invites i JOIN organizations o ON o.id = i.org_id
   WHERE i.email = lower(wanted) AND i.accepted_at IS NULL AND i.revoked_at IS NULL
     AND i.expires_at > clock_timestamp() AND o.deleted_at IS NULL AND o.disabled_at IS NULL
   ORDER BY i.created_at, i.id LIMIT 1
$$;

-- Whom a provider's user is here; noted as a login.
CREATE FUNCTION auth_identity(wanted_issuer text, wanted_subject text) RETURNS TABLE (user_id uuid, disabled boolean)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  UPDATE identities i SET last_login_at = clock_timestamp() FROM users u
   WHERE i.issuer = wanted_issuer AND i.subject = wanted_subject AND u.id = i.user_id
  RETURNING u.id, u.disabled_at IS NOT NULL
$$;

-- Know a user by a provider from now on; false when they are known by another of its subjects. Whoever registered an
-- address without proof loses the password and the sessions to the one who has the proof.
CREATE FUNCTION auth_link_identity(new_issuer text, new_subject text, wanted_user uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO identities (issuer, subject, user_id) VALUES (new_issuer, new_subject, wanted_user)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN EXISTS (SELECT 1 FROM identities i
                    WHERE i.issuer = new_issuer AND i.subject = new_subject AND i.user_id = wanted_user);
  END IF;
  UPDATE users SET password_hash = '', email_verified_at = now() WHERE id = wanted_user AND email_verified_at IS NULL;
  IF FOUND THEN
    PERFORM auth_end_sessions(wanted_user, NULL);
  END IF;
  RETURN true;
END $$;

-- Where a provider's new users go: the organization that was there first.
CREATE FUNCTION auth_first_organization() RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
  SELECT o.id FROM organizations o WHERE o.deleted_at IS NULL AND o.disabled_at IS NULL
   ORDER BY o.created_at, o.id LIMIT 1
$$;

DO $$
DECLARE f text;
BEGIN
  FOREACH f IN ARRAY ARRAY[
    'auth_key(text)', 'auth_memberships(uuid)', 'auth_user(text)', 'auth_add_user(uuid, text, text, text, boolean)',
    'auth_hold_password(uuid, text)', 'auth_rehash(uuid, text, text)', 'auth_end_sessions(uuid, uuid)',
    'auth_set_password(uuid, text, text, uuid)', 'auth_ask_reset(text, bytea, integer)', 'auth_reset(bytea)',
    'auth_use_reset(bytea, text)', 'auth_invite(bytea)', 'auth_invite_of(text)', 'auth_identity(text, text)',
    'auth_link_identity(text, text, uuid)', 'auth_first_organization()'
  ] LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO tocsin_api', f);
  END LOOP;
END $$;

RESET ROLE;
