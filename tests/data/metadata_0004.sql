--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: admin_invitations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.admin_invitations (
    email text NOT NULL,
    secret_hash text NOT NULL,
    invited_by uuid,
    invited_by_name text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    id uuid NOT NULL,
    CONSTRAINT ck_admin_invitations_email_lower_case CHECK ((email = lower(email)))
);


--
-- Name: admin_sessions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.admin_sessions (
    admin_id uuid NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_seen_at timestamp with time zone NOT NULL,
    address text NOT NULL,
    user_agent text NOT NULL,
    id uuid NOT NULL
);


--
-- Name: admins; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.admins (
    email text NOT NULL,
    password_hash text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    last_login_at timestamp with time zone,
    disabled_at timestamp with time zone,
    id uuid NOT NULL,
    CONSTRAINT ck_admins_email_lower_case CHECK ((email = lower(email)))
);


--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: api_tokens; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.api_tokens (
    name text NOT NULL,
    prefix text NOT NULL,
    secret_hash text NOT NULL,
    scopes text[] NOT NULL,
    created_by uuid,
    created_at timestamp with time zone NOT NULL,
    last_used_at timestamp with time zone,
    last_used_address text,
    revoked_at timestamp with time zone,
    id uuid NOT NULL,
    created_by_name text NOT NULL,
    CONSTRAINT ck_api_tokens_scopes CHECK (((cardinality(scopes) > 0) AND (scopes <@ ARRAY['read'::text, 'backup'::text, 'restore'::text, 'admin'::text])))
);


--
-- Name: audit_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor_kind text NOT NULL,
    actor_id text,
    actor_name text NOT NULL,
    address text,
    action text NOT NULL,
    subject_type text NOT NULL,
    subject_id text,
    detail jsonb NOT NULL,
    CONSTRAINT ck_audit_log_actor_kind CHECK ((actor_kind = ANY (ARRAY['admin'::text, 'token'::text, 'system'::text, 'cli'::text])))
);


--
-- Name: audit_log_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: backup_history; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.backup_history (
    kind text NOT NULL,
    status text NOT NULL,
    phase text,
    bytes_done bigint NOT NULL,
    bytes_total bigint,
    phase_started_at timestamp with time zone,
    schedule_id uuid,
    scheduled_for timestamp with time zone,
    filename text,
    size_bytes bigint,
    sha256 text,
    summary jsonb NOT NULL,
    warnings text[] NOT NULL,
    error text,
    categories text[] NOT NULL,
    expires_at timestamp with time zone,
    pinned boolean NOT NULL,
    note text,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    verified_at timestamp with time zone,
    restore_tested_at timestamp with time zone,
    verify_requested_at timestamp with time zone,
    attempt bigint NOT NULL,
    heartbeat_at timestamp with time zone,
    enqueued_at timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    requested_by text,
    job_id text,
    host text,
    worker text,
    id uuid NOT NULL,
    origin text DEFAULT 'own'::text NOT NULL,
    trusted_at timestamp with time zone,
    trusted_by text,
    restore_test_seconds double precision,
    verify_restoring boolean DEFAULT false NOT NULL,
    notified_at timestamp with time zone,
    CONSTRAINT ck_backup_history_completed_has_archive CHECK (((status <> 'completed'::text) OR ((filename IS NOT NULL) AND (size_bytes > 0) AND (sha256 IS NOT NULL) AND (started_at IS NOT NULL) AND (finished_at IS NOT NULL)))),
    CONSTRAINT ck_backup_history_failed_has_reason CHECK (((status <> 'failed'::text) OR (error IS NOT NULL))),
    CONSTRAINT ck_backup_history_kind CHECK ((kind = ANY (ARRAY['manual'::text, 'scheduled'::text, 'safety'::text, 'uploaded'::text]))),
    CONSTRAINT ck_backup_history_origin CHECK ((origin = ANY (ARRAY['own'::text, 'other_key'::text, 'foreign'::text]))),
    CONSTRAINT ck_backup_history_status CHECK ((status = ANY (ARRAY['queued'::text, 'in_progress'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
);


--
-- Name: backup_schedules; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.backup_schedules (
    name text NOT NULL,
    frequency text NOT NULL,
    minute bigint,
    hour bigint,
    day_of_week bigint,
    day_of_month text,
    cron_expression text,
    timezone text NOT NULL,
    enabled boolean NOT NULL,
    keep_hourly bigint,
    keep_daily bigint,
    keep_weekly bigint,
    keep_monthly bigint,
    next_run_at timestamp with time zone,
    last_run_at timestamp with time zone,
    last_status text,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    deleted_at timestamp with time zone,
    id uuid NOT NULL,
    CONSTRAINT ck_backup_schedules_custom_has_cron CHECK (((frequency <> 'custom'::text) OR (cron_expression IS NOT NULL))),
    CONSTRAINT ck_backup_schedules_day_of_month CHECK ((day_of_month ~ '^([1-9]|[12][0-9]|3[01]|last)$'::text)),
    CONSTRAINT ck_backup_schedules_day_of_week CHECK (((day_of_week >= 0) AND (day_of_week <= 6))),
    CONSTRAINT ck_backup_schedules_frequency CHECK ((frequency = ANY (ARRAY['hourly'::text, 'daily'::text, 'weekly'::text, 'monthly'::text, 'custom'::text]))),
    CONSTRAINT ck_backup_schedules_hour CHECK (((hour >= 0) AND (hour <= 23))),
    CONSTRAINT ck_backup_schedules_minute CHECK (((minute >= 0) AND (minute <= 59))),
    CONSTRAINT ck_backup_schedules_quotas CHECK (((LEAST(keep_hourly, keep_daily, keep_weekly, keep_monthly) IS NULL) OR (LEAST(keep_hourly, keep_daily, keep_weekly, keep_monthly) >= 0)))
);


--
-- Name: backup_settings; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.backup_settings (
    id integer NOT NULL,
    keep_hourly bigint DEFAULT '8'::bigint NOT NULL,
    keep_daily bigint DEFAULT '7'::bigint NOT NULL,
    keep_weekly bigint DEFAULT '4'::bigint NOT NULL,
    keep_monthly bigint DEFAULT '12'::bigint NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    notify_success boolean DEFAULT false NOT NULL,
    notify_failure boolean DEFAULT true NOT NULL,
    notify_warnings boolean DEFAULT true NOT NULL,
    notify_overdue boolean DEFAULT true NOT NULL,
    notify_restore boolean DEFAULT true NOT NULL,
    notify_cleanup boolean DEFAULT true NOT NULL,
    recipients text[] DEFAULT '{}'::text[] NOT NULL,
    channels_sealed text,
    heartbeat_sealed text,
    heartbeat_failure_sealed text,
    undo_hours bigint,
    stall_minutes bigint DEFAULT '10'::bigint NOT NULL,
    disk_reserve_bytes bigint DEFAULT '268435456'::bigint NOT NULL,
    CONSTRAINT ck_backup_settings_limits CHECK (((undo_hours > 0) AND (stall_minutes > 0) AND (disk_reserve_bytes >= 0))),
    CONSTRAINT ck_backup_settings_quotas CHECK ((LEAST(keep_hourly, keep_daily, keep_weekly, keep_monthly) >= 0)),
    CONSTRAINT ck_backup_settings_single_row CHECK ((id = 1))
);


--
-- Name: backup_slots; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.backup_slots (
    schedule_id uuid NOT NULL,
    scheduled_for timestamp with time zone NOT NULL,
    status text NOT NULL,
    attempts bigint NOT NULL,
    next_attempt_at timestamp with time zone,
    backup_id uuid,
    error text,
    created_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    id uuid NOT NULL,
    CONSTRAINT ck_backup_slots_pending_has_time CHECK (((status <> 'pending'::text) OR (next_attempt_at IS NOT NULL))),
    CONSTRAINT ck_backup_slots_status CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
);


--
-- Name: notifications; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.notifications (
    event text NOT NULL,
    subject_key text NOT NULL,
    medium text NOT NULL,
    target text NOT NULL,
    title text NOT NULL,
    text text NOT NULL,
    html text,
    status text NOT NULL,
    attempts bigint NOT NULL,
    next_attempt_at timestamp with time zone NOT NULL,
    claimed_at timestamp with time zone,
    sent_at timestamp with time zone,
    error text,
    created_at timestamp with time zone NOT NULL,
    id uuid NOT NULL,
    CONSTRAINT ck_notifications_medium CHECK ((medium = ANY (ARRAY['email'::text, 'channel'::text, 'heartbeat'::text]))),
    CONSTRAINT ck_notifications_status CHECK ((status = ANY (ARRAY['pending'::text, 'sending'::text, 'sent'::text, 'failed'::text])))
);


--
-- Name: restores; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.restores (
    backup_id uuid,
    safety_backup_id uuid,
    scope text NOT NULL,
    safety_backup boolean NOT NULL,
    status text NOT NULL,
    phase text,
    bytes_done bigint NOT NULL,
    bytes_total bigint,
    phase_started_at timestamp with time zone,
    error text,
    warnings text[] NOT NULL,
    result jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    swap_at timestamp with time zone,
    finished_at timestamp with time zone,
    undo_until timestamp with time zone,
    undone_at timestamp with time zone,
    discarded_at timestamp with time zone,
    attempt bigint NOT NULL,
    heartbeat_at timestamp with time zone,
    enqueued_at timestamp with time zone,
    cancel_requested_at timestamp with time zone,
    requested_by text,
    job_id text,
    host text,
    worker text,
    id uuid NOT NULL,
    notified_at timestamp with time zone,
    CONSTRAINT ck_restores_completed_has_end CHECK (((status <> 'completed'::text) OR (finished_at IS NOT NULL))),
    CONSTRAINT ck_restores_failed_has_reason CHECK (((status <> 'failed'::text) OR (error IS NOT NULL))),
    CONSTRAINT ck_restores_scope CHECK ((scope = ANY (ARRAY['all'::text, 'database'::text, 'documents'::text]))),
    CONSTRAINT ck_restores_status CHECK ((status = ANY (ARRAY['queued'::text, 'in_progress'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
);


--
-- Name: ticks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.ticks (
    name text NOT NULL,
    last_ran_at timestamp with time zone NOT NULL
);


--
-- Data for Name: admin_invitations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.admin_invitations (email, secret_hash, invited_by, invited_by_name, created_at, expires_at, id) VALUES ('newcomer@example.org', '33d7e051628ece58dd47dcd74757ccb63ed9ac9d2e077806e9b1edda99868240', NULL, 'tests', '2026-11-28 17:20:33.666556+00', '2026-12-01 17:20:33.666556+00', '3dd7ca71-5fcb-43ef-92ee-05b40bb4b639');


--
-- Data for Name: admin_sessions; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.admin_sessions (admin_id, created_at, last_seen_at, address, user_agent, id) VALUES ('9aab7622-8247-4df1-8cab-aa3988f57ee6', '2026-11-28 17:20:29.657996+00', '2026-11-28 17:20:29.657996+00', '127.0.0.1', 'Werkzeug/3.1.9', '1cd28437-9883-4d0c-b4da-4a540f441aff');


--
-- Data for Name: admins; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.admins (email, password_hash, created_at, last_login_at, disabled_at, id) VALUES ('admin@example.com', '$argon2id$v=19$m=65536,t=3,p=4$Ft67EE8ahS+rM576k2wPfw$D4m0MpVWPPH1SKlWhoo0vYaoPY1uN013b2Qh++op1jU', '2026-11-28 17:20:27.98382+00', '2026-11-28 17:20:29.646276+00', NULL, '9aab7622-8247-4df1-8cab-aa3988f57ee6');
INSERT INTO public.admins (email, password_hash, created_at, last_login_at, disabled_at, id) VALUES ('colleague@example.org', '$argon2id$v=19$m=65536,t=3,p=4$7MbTM0nCDcUg7C9hTsqi+g$H0ou63SqTfr4Tlr3DXEzXt6GLgwXmR6vEXBDUeIl314', '2026-11-28 17:20:32.246554+00', NULL, NULL, '2c18d8bb-9e01-4b3a-bc4e-fd18c593a0c2');
INSERT INTO public.admins (email, password_hash, created_at, last_login_at, disabled_at, id) VALUES ('former@example.org', '$argon2id$v=19$m=65536,t=3,p=4$8mmwxFDfS0jc4GkoSPZpow$1c7VbobcDjKBsApyqqlMDg/S56EAzdPZz4cRkmiQ4GE', '2026-11-28 17:20:33.507489+00', NULL, '2026-11-28 17:20:33.58707+00', '86232911-ac64-48a2-9091-9cd45a2bdd06');


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version (version_num) VALUES ('0004');


--
-- Data for Name: api_tokens; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.api_tokens (name, prefix, secret_hash, scopes, created_by, created_at, last_used_at, last_used_address, revoked_at, id, created_by_name) VALUES ('<b>&"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglo', 'mvb_k1Vzx6', '642f8dc5f7fd844abeeb2fbda1c45078b96f2641999d47c9c9d9eb454c680bc9', '{backup,restore}', NULL, '2026-11-28 17:20:33.621328+00', NULL, NULL, NULL, 'd5457dff-5bdf-465e-b295-285e8325783f', 'tests');
INSERT INTO public.api_tokens (name, prefix, secret_hash, scopes, created_by, created_at, last_used_at, last_used_address, revoked_at, id, created_by_name) VALUES ('old', 'mvb_6gpee9', '5d53418628530c1437d08d6754c0a069da9bcdd8342adb9ea21f82fa405d40a5', '{read}', NULL, '2026-11-28 17:20:33.633563+00', NULL, NULL, '2026-11-28 17:20:33.656796+00', 'da0a8193-d7eb-4350-b457-c410428ec2c1', 'tests');


--
-- Data for Name: audit_log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-28 17:20:28.031535+00', 'system', NULL, 'tests', NULL, 'admin.created', 'admin', '9aab7622-8247-4df1-8cab-aa3988f57ee6', '{"email": "admin@example.com"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-28 17:20:29.655227+00', 'admin', '9aab7622-8247-4df1-8cab-aa3988f57ee6', 'admin@example.com', '127.0.0.1', 'login', 'admin', '9aab7622-8247-4df1-8cab-aa3988f57ee6', '{}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (3, '2026-11-28 17:20:30.426816+00', 'system', NULL, 'tests', NULL, 'backup.rescan', 'storage', NULL, '{"added": 1, "archives": 1}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (4, '2026-11-28 17:20:30.525105+00', 'system', NULL, 'tests', NULL, 'backup.changed', 'backup', 'f65652db-537d-47fb-8e4f-6a6554f58486', '{"note": "<b>&\"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (5, '2026-11-28 17:20:30.613178+00', 'system', NULL, 'tests', NULL, 'backup.rescan', 'storage', NULL, '{"added": 1, "archives": 2}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (6, '2026-11-28 17:20:30.841876+00', 'system', NULL, 'tests', NULL, 'schedule.created', 'schedule', '65b718e3-7f43-483a-bc0d-05d2978eb1fa', '{"hour": 3, "name": "Nights", "minute": 0, "timezone": "UTC", "frequency": "daily", "keep_daily": 14}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (7, '2026-11-28 17:20:30.965177+00', 'system', NULL, 'tests', NULL, 'schedule.created', 'schedule', '117a183f-5680-4065-ac88-dfe18dadec7f', '{"name": "<b>&\"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglo", "timezone": "UTC", "frequency": "custom", "cron_expression": "0 */6 * * 1-5"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (8, '2026-11-28 17:20:32.258881+00', 'system', NULL, 'tests', NULL, 'admin.created', 'admin', '2c18d8bb-9e01-4b3a-bc4e-fd18c593a0c2', '{"email": "colleague@example.org"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (9, '2026-11-28 17:20:33.526264+00', 'system', NULL, 'tests', NULL, 'admin.created', 'admin', '86232911-ac64-48a2-9091-9cd45a2bdd06', '{"email": "former@example.org"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (10, '2026-11-28 17:20:33.611653+00', 'system', NULL, 'tests', NULL, 'admin.disabled', 'admin', '86232911-ac64-48a2-9091-9cd45a2bdd06', '{"email": "former@example.org", "tokens": 0, "sessions": 0, "invitations": 0}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (11, '2026-11-28 17:20:33.627536+00', 'system', NULL, 'tests', NULL, 'token.created', 'token', 'd5457dff-5bdf-465e-b295-285e8325783f', '{"name": "<b>&\"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglo", "scopes": ["backup", "restore"]}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (12, '2026-11-28 17:20:33.636967+00', 'system', NULL, 'tests', NULL, 'token.created', 'token', 'da0a8193-d7eb-4350-b457-c410428ec2c1', '{"name": "old", "scopes": ["read"]}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (13, '2026-11-28 17:20:33.664555+00', 'system', NULL, 'tests', NULL, 'token.revoked', 'token', 'da0a8193-d7eb-4350-b457-c410428ec2c1', '{"name": "old"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (14, '2026-11-28 17:20:33.672627+00', 'system', NULL, 'tests', NULL, 'admin.invited', 'invitation', '3dd7ca71-5fcb-43ef-92ee-05b40bb4b639', '{"email": "newcomer@example.org"}');
INSERT INTO public.audit_log (id, at, actor_kind, actor_id, actor_name, address, action, subject_type, subject_id, detail) OVERRIDING SYSTEM VALUE VALUES (15, '2026-11-28 17:20:35.721114+00', 'system', NULL, 'tests', NULL, 'settings.changed', 'settings', NULL, '{"secrets": ["heartbeat", "channels"], "recipients": ["ops@example.com"], "undo_hours": 48, "keep_hourly": 24}');


--
-- Data for Name: backup_history; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('manual', 'completed', NULL, 95882, 95882, NULL, NULL, NULL, 'motovaultpro_backup_20261128_172029.tar.gz', 95882, '2ee48710ff23eb25540cf5585e2c5e794ffbe4a2abf0724d6b4aa8731ca938af', '{"rows": 1000, "tables": 1, "documents": 15, "server_version": "18.4", "documents_bytes": 246326}', '{}', NULL, '{}', NULL, true, '<b>&"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong', '2026-11-28 17:20:29.712206+00', '2026-11-28 17:20:29.712206+00', '2026-11-28 17:20:30.211085+00', '2026-11-28 17:20:30.393068+00', NULL, NULL, 0, NULL, NULL, NULL, 'rescan', NULL, NULL, NULL, 'f65652db-537d-47fb-8e4f-6a6554f58486', 'own', NULL, NULL, NULL, false, '2026-11-28 17:20:30.3931+00');
INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('uploaded', 'completed', NULL, 544, 544, NULL, NULL, NULL, 'motovaultpro_backup_20250101_000000.tar.gz', 544, '499dd61998dc71beefa571533589551c2fa3cf68064148ac577bf7b69fb8b181', '{"rows": 1, "tables": 1, "documents": 1, "server_version": "16", "documents_bytes": 3}', '{}', NULL, '{}', NULL, true, NULL, '2026-11-28 17:20:30.536931+00', '2026-11-28 17:20:30.536931+00', '2026-11-28 17:20:30.536931+00', '2026-11-28 17:20:30.578373+00', NULL, NULL, 0, NULL, NULL, NULL, 'rescan', NULL, NULL, NULL, '96a18827-8f74-4a35-b9d5-6e34082268fa', 'foreign', NULL, NULL, NULL, false, '2026-11-28 17:20:30.578373+00');
INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('manual', 'failed', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', '{}', 'pg_dump lost its connection. Check BACKUP_SOURCE_URL.', '{}', NULL, false, NULL, '2026-11-28 12:20:30.709631+00', '2026-11-28 12:20:30.709631+00', '2026-11-28 12:21:45.709631+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, '97926463-981b-4fbf-a81d-596784530501', 'own', NULL, NULL, NULL, false, NULL);
INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('manual', 'cancelled', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{}', '{}', NULL, '{}', NULL, false, NULL, '2026-11-28 12:20:30.730341+00', '2026-11-28 12:20:30.730341+00', '2026-11-28 12:21:45.730341+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, 'e5f356be-c33e-4b23-93d1-f79a12b907e7', 'own', NULL, NULL, NULL, false, NULL);
INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('manual', 'completed', NULL, 0, NULL, NULL, NULL, NULL, 'motovaultpro_backup_20260101_000001.tar.gz', 19, 'abababababababababababababababababababababababababababababababab', '{}', '{}', NULL, '{}', NULL, false, NULL, '2026-11-26 15:20:30.748659+00', '2026-11-26 15:20:30.748659+00', '2026-11-26 15:21:45.748659+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, '35521d92-c6c6-4bb8-9b15-050be78feaec', 'own', NULL, NULL, NULL, false, NULL);
INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('manual', 'completed', NULL, 0, NULL, NULL, NULL, NULL, 'motovaultpro_backup_20260101_000003.tar.gz', 95882, '2ee48710ff23eb25540cf5585e2c5e794ffbe4a2abf0724d6b4aa8731ca938af', '{"rows": 1000, "tables": 1, "documents": 15, "server_version": "18.4", "documents_bytes": 246326}', '{"documents/1/photo.jpg changed while it was read.","<b>&\"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglong"}', NULL, '{}', NULL, false, NULL, '2026-11-28 14:20:31.000682+00', '2026-11-28 14:20:31.000682+00', '2026-11-28 14:21:46.000682+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, 'fd185a07-ab11-485b-b5b3-392cf31cfd58', 'own', NULL, NULL, NULL, false, NULL);
INSERT INTO public.backup_history (kind, status, phase, bytes_done, bytes_total, phase_started_at, schedule_id, scheduled_for, filename, size_bytes, sha256, summary, warnings, error, categories, expires_at, pinned, note, created_at, started_at, finished_at, verified_at, restore_tested_at, verify_requested_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, origin, trusted_at, trusted_by, restore_test_seconds, verify_restoring, notified_at) VALUES ('safety', 'completed', NULL, 0, NULL, NULL, NULL, NULL, 'motovaultpro_backup_20260101_000002.tar.gz', 95882, '2ee48710ff23eb25540cf5585e2c5e794ffbe4a2abf0724d6b4aa8731ca938af', '{"rows": 1000, "tables": 1, "documents": 15, "server_version": "18.4", "documents_bytes": 246326}', '{}', NULL, '{}', NULL, false, 'Before the restore', '2026-11-28 15:20:31.043729+00', '2026-11-28 15:20:31.043729+00', '2026-11-28 15:21:46.043729+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, 'ef937a74-584d-42be-bbd3-5db3a16b961b', 'own', NULL, NULL, NULL, false, NULL);


--
-- Data for Name: backup_schedules; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.backup_schedules (name, frequency, minute, hour, day_of_week, day_of_month, cron_expression, timezone, enabled, keep_hourly, keep_daily, keep_weekly, keep_monthly, next_run_at, last_run_at, last_status, created_at, updated_at, deleted_at, id) VALUES ('Nights', 'daily', 0, 3, NULL, NULL, NULL, 'UTC', true, NULL, 14, NULL, NULL, '2026-11-29 03:00:00+00', NULL, NULL, '2026-11-28 17:20:30.757652+00', '2026-11-28 17:20:30.757652+00', NULL, '65b718e3-7f43-483a-bc0d-05d2978eb1fa');
INSERT INTO public.backup_schedules (name, frequency, minute, hour, day_of_week, day_of_month, cron_expression, timezone, enabled, keep_hourly, keep_daily, keep_weekly, keep_monthly, next_run_at, last_run_at, last_status, created_at, updated_at, deleted_at, id) VALUES ('<b>&"''` ${7*7} {{7*7}} é🚗 longlonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglo', 'custom', NULL, NULL, NULL, NULL, '0 */6 * * 1-5', 'UTC', false, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-11-28 17:20:30.846233+00', '2026-11-28 17:20:30.846233+00', NULL, '117a183f-5680-4065-ac88-dfe18dadec7f');


--
-- Data for Name: backup_settings; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.backup_settings (id, keep_hourly, keep_daily, keep_weekly, keep_monthly, updated_at, notify_success, notify_failure, notify_warnings, notify_overdue, notify_restore, notify_cleanup, recipients, channels_sealed, heartbeat_sealed, heartbeat_failure_sealed, undo_hours, stall_minutes, disk_reserve_bytes) VALUES (1, 24, 7, 4, 12, '2026-11-28 17:20:35.720508+00', false, true, true, true, true, true, '{ops@example.com}', 'gAAAAABrCw1jnDZX4GM5UZQDpInPgH3AEQosk6o03F3GRihS54tSBIjwu-mxgWyE4J06kgmT4mjQILngAMGZTmp3cYFzW48F2NU_kw_5K49PMgBz1I97CGuSAjJiawFku2IcmKZalccA7EMpVsVIC1yG3GBmE_1iHrnttSLYNvQ5qH8aAxsD5Ao=', 'gAAAAABrCw1h3BslRVWXSq6sY7eGkFwFg7yfOEtpmvB3-Pe5UP08IdxTOCC7hUhrRhRBCqt9Ign1SKxAWJEeskWoFNHCHmmYgrhVvn7sS_om9pMzYsuShNw=', NULL, 48, 10, 268435456);


--
-- Data for Name: backup_slots; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.backup_slots (schedule_id, scheduled_for, status, attempts, next_attempt_at, backup_id, error, created_at, finished_at, id) VALUES ('65b718e3-7f43-483a-bc0d-05d2978eb1fa', '2026-11-28 17:00:00+00', 'completed', 1, NULL, 'f65652db-537d-47fb-8e4f-6a6554f58486', NULL, '2026-11-28 17:20:35.800007+00', '2026-11-28 17:00:00+00', '323c55d6-545c-49eb-8101-adddd81bf2f8');
INSERT INTO public.backup_slots (schedule_id, scheduled_for, status, attempts, next_attempt_at, backup_id, error, created_at, finished_at, id) VALUES ('65b718e3-7f43-483a-bc0d-05d2978eb1fa', '2026-11-29 17:00:00+00', 'pending', 0, '2026-11-29 17:00:00+00', NULL, NULL, '2026-11-28 17:20:35.80002+00', NULL, '550262a1-eb9c-4fb6-9337-f9e7114388e2');


--
-- Data for Name: notifications; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.notifications (event, subject_key, medium, target, title, text, html, status, attempts, next_attempt_at, claimed_at, sent_at, error, created_at, id) VALUES ('backup_failed', 'backup:97926463-981b-4fbf-a81d-596784530501:sent', 'email', 'ops@example.com', 'A backup failed', 'The backup failed.', '<p>The backup failed.</p>', 'sent', 1, '2026-11-28 17:00:00+00', NULL, '2026-11-28 17:00:00+00', NULL, '2026-11-28 17:20:35.830997+00', '5620cb03-a3f5-45be-b3a9-75304570d30f');
INSERT INTO public.notifications (event, subject_key, medium, target, title, text, html, status, attempts, next_attempt_at, claimed_at, sent_at, error, created_at, id) VALUES ('backup_failed', 'backup:97926463-981b-4fbf-a81d-596784530501:failed', 'email', 'ops@example.com', 'A backup failed', 'The backup failed.', '<p>The backup failed.</p>', 'failed', 1, '2026-11-28 17:00:00+00', NULL, NULL, '550 no such user', '2026-11-28 17:20:35.831019+00', '988965af-fde7-41e0-929d-bc01b755b228');


--
-- Data for Name: restores; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.restores (backup_id, safety_backup_id, scope, safety_backup, status, phase, bytes_done, bytes_total, phase_started_at, error, warnings, result, created_at, started_at, swap_at, finished_at, undo_until, undone_at, discarded_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, notified_at) VALUES ('f65652db-537d-47fb-8e4f-6a6554f58486', 'ef937a74-584d-42be-bbd3-5db3a16b961b', 'all', true, 'completed', NULL, 0, NULL, NULL, NULL, '{}', '{"tables": [{"name": "vehicles", "schema": "public", "rows_after": 1000, "rows_before": 10}, {"name": "users", "schema": "public", "rows_after": 4, "rows_before": 4}, {"name": "later", "schema": "old", "rows_after": null, "rows_before": 1}], "gap_seconds": 0.113, "documents_after": 312, "documents_before": 11}', '2026-11-28 17:15:31.092522+00', '2026-11-28 17:16:31.092522+00', NULL, '2026-11-28 17:17:31.092522+00', '2026-11-29 17:17:31.092522+00', NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, 'fa48dd86-db6e-4c10-8d85-c5e1381d98e5', NULL);
INSERT INTO public.restores (backup_id, safety_backup_id, scope, safety_backup, status, phase, bytes_done, bytes_total, phase_started_at, error, warnings, result, created_at, started_at, swap_at, finished_at, undo_until, undone_at, discarded_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, notified_at) VALUES ('f65652db-537d-47fb-8e4f-6a6554f58486', NULL, 'database', true, 'failed', NULL, 0, NULL, NULL, 'The archive is damaged: a block of table vehicles does not match its hash.', '{}', '{}', '2026-11-28 17:15:31.121017+00', '2026-11-28 17:16:31.121017+00', NULL, '2026-11-28 17:20:31.121012+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, '1213ba88-a28c-432c-8ee7-1fcf2c7a1005', NULL);
INSERT INTO public.restores (backup_id, safety_backup_id, scope, safety_backup, status, phase, bytes_done, bytes_total, phase_started_at, error, warnings, result, created_at, started_at, swap_at, finished_at, undo_until, undone_at, discarded_at, attempt, heartbeat_at, enqueued_at, cancel_requested_at, requested_by, job_id, host, worker, id, notified_at) VALUES ('f65652db-537d-47fb-8e4f-6a6554f58486', NULL, 'documents', true, 'cancelled', NULL, 0, NULL, NULL, NULL, '{}', '{}', '2026-11-28 17:15:31.152006+00', '2026-11-28 17:16:31.152006+00', NULL, '2026-11-28 17:20:31.152+00', NULL, NULL, NULL, 0, NULL, NULL, NULL, 'admin@example.com', NULL, NULL, NULL, 'd9a710bc-2022-4f52-99e1-04168d4847c7', NULL);


--
-- Data for Name: ticks; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.ticks (name, last_ran_at) VALUES ('reconcile', '2026-11-28 17:20:35.785616+00');


--
-- Name: audit_log_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.audit_log_id_seq', 15, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: admin_invitations pk_admin_invitations; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admin_invitations
    ADD CONSTRAINT pk_admin_invitations PRIMARY KEY (id);


--
-- Name: admin_sessions pk_admin_sessions; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT pk_admin_sessions PRIMARY KEY (id);


--
-- Name: admins pk_admins; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admins
    ADD CONSTRAINT pk_admins PRIMARY KEY (id);


--
-- Name: api_tokens pk_api_tokens; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT pk_api_tokens PRIMARY KEY (id);


--
-- Name: audit_log pk_audit_log; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT pk_audit_log PRIMARY KEY (id);


--
-- Name: backup_history pk_backup_history; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_history
    ADD CONSTRAINT pk_backup_history PRIMARY KEY (id);


--
-- Name: backup_schedules pk_backup_schedules; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_schedules
    ADD CONSTRAINT pk_backup_schedules PRIMARY KEY (id);


--
-- Name: backup_settings pk_backup_settings; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_settings
    ADD CONSTRAINT pk_backup_settings PRIMARY KEY (id);


--
-- Name: backup_slots pk_backup_slots; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_slots
    ADD CONSTRAINT pk_backup_slots PRIMARY KEY (id);


--
-- Name: notifications pk_notifications; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.notifications
    ADD CONSTRAINT pk_notifications PRIMARY KEY (id);


--
-- Name: restores pk_restores; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.restores
    ADD CONSTRAINT pk_restores PRIMARY KEY (id);


--
-- Name: ticks pk_ticks; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.ticks
    ADD CONSTRAINT pk_ticks PRIMARY KEY (name);


--
-- Name: admin_invitations uq_admin_invitations_email; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admin_invitations
    ADD CONSTRAINT uq_admin_invitations_email UNIQUE (email);


--
-- Name: admin_invitations uq_admin_invitations_secret_hash; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admin_invitations
    ADD CONSTRAINT uq_admin_invitations_secret_hash UNIQUE (secret_hash);


--
-- Name: admins uq_admins_email; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admins
    ADD CONSTRAINT uq_admins_email UNIQUE (email);


--
-- Name: api_tokens uq_api_tokens_secret_hash; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT uq_api_tokens_secret_hash UNIQUE (secret_hash);


--
-- Name: backup_history uq_backup_history_filename; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_history
    ADD CONSTRAINT uq_backup_history_filename UNIQUE (filename);


--
-- Name: backup_history uq_backup_history_schedule_id_scheduled_for; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_history
    ADD CONSTRAINT uq_backup_history_schedule_id_scheduled_for UNIQUE (schedule_id, scheduled_for);


--
-- Name: backup_slots uq_backup_slots_schedule_id_scheduled_for; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_slots
    ADD CONSTRAINT uq_backup_slots_schedule_id_scheduled_for UNIQUE (schedule_id, scheduled_for);


--
-- Name: notifications uq_notifications_subject_key_medium_target; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.notifications
    ADD CONSTRAINT uq_notifications_subject_key_medium_target UNIQUE (subject_key, medium, target);


--
-- Name: ix_admin_invitations_invited_by; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_admin_invitations_invited_by ON public.admin_invitations USING btree (invited_by);


--
-- Name: ix_admin_sessions_admin_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_admin_sessions_admin_id ON public.admin_sessions USING btree (admin_id);


--
-- Name: ix_api_tokens_created_by; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_api_tokens_created_by ON public.api_tokens USING btree (created_by);


--
-- Name: ix_audit_log_at_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_log_at_id ON public.audit_log USING btree (at DESC, id DESC);


--
-- Name: ix_audit_log_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_audit_log_subject ON public.audit_log USING btree (subject_type, subject_id);


--
-- Name: ix_backup_history_created_at_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_created_at_id ON public.backup_history USING btree (created_at DESC, id DESC);


--
-- Name: ix_backup_history_kind_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_kind_created_at ON public.backup_history USING btree (kind, created_at DESC, id DESC);


--
-- Name: ix_backup_history_live; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_live ON public.backup_history USING btree (status) WHERE (status = ANY (ARRAY['queued'::text, 'in_progress'::text]));


--
-- Name: ix_backup_history_news; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_news ON public.backup_history USING btree (status) WHERE (notified_at IS NULL);


--
-- Name: ix_backup_history_schedule_id_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_schedule_id_created_at ON public.backup_history USING btree (schedule_id, created_at DESC, id DESC);


--
-- Name: ix_backup_history_sha256; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_sha256 ON public.backup_history USING btree (sha256);


--
-- Name: ix_backup_history_status_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_history_status_created_at ON public.backup_history USING btree (status, created_at DESC, id DESC);


--
-- Name: ix_backup_schedules_due; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_schedules_due ON public.backup_schedules USING btree (next_run_at) WHERE (enabled AND (deleted_at IS NULL));


--
-- Name: ix_backup_slots_backup_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_slots_backup_id ON public.backup_slots USING btree (backup_id);


--
-- Name: ix_backup_slots_open; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_backup_slots_open ON public.backup_slots USING btree (status) WHERE (status = ANY (ARRAY['pending'::text, 'running'::text]));


--
-- Name: ix_notifications_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_notifications_created_at ON public.notifications USING btree (created_at DESC, id DESC);


--
-- Name: ix_notifications_open; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_notifications_open ON public.notifications USING btree (next_attempt_at) WHERE (status = ANY (ARRAY['pending'::text, 'sending'::text]));


--
-- Name: ix_restores_backup_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_restores_backup_id ON public.restores USING btree (backup_id);


--
-- Name: ix_restores_created_at; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_restores_created_at ON public.restores USING btree (created_at DESC, id DESC);


--
-- Name: ix_restores_live; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_restores_live ON public.restores USING btree (status) WHERE (status = ANY (ARRAY['queued'::text, 'in_progress'::text]));


--
-- Name: ix_restores_news; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_restores_news ON public.restores USING btree (status) WHERE (notified_at IS NULL);


--
-- Name: ix_restores_safety_backup_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX ix_restores_safety_backup_id ON public.restores USING btree (safety_backup_id);


--
-- Name: admin_invitations fk_admin_invitations_invited_by; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admin_invitations
    ADD CONSTRAINT fk_admin_invitations_invited_by FOREIGN KEY (invited_by) REFERENCES public.admins(id) ON DELETE CASCADE;


--
-- Name: admin_sessions fk_admin_sessions_admin_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.admin_sessions
    ADD CONSTRAINT fk_admin_sessions_admin_id FOREIGN KEY (admin_id) REFERENCES public.admins(id) ON DELETE CASCADE;


--
-- Name: api_tokens fk_api_tokens_created_by; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_tokens
    ADD CONSTRAINT fk_api_tokens_created_by FOREIGN KEY (created_by) REFERENCES public.admins(id) ON DELETE SET NULL;


--
-- Name: backup_history fk_backup_history_schedule_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_history
    ADD CONSTRAINT fk_backup_history_schedule_id FOREIGN KEY (schedule_id) REFERENCES public.backup_schedules(id);


--
-- Name: backup_slots fk_backup_slots_backup_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_slots
    ADD CONSTRAINT fk_backup_slots_backup_id FOREIGN KEY (backup_id) REFERENCES public.backup_history(id) ON DELETE SET NULL;


--
-- Name: backup_slots fk_backup_slots_schedule_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.backup_slots
    ADD CONSTRAINT fk_backup_slots_schedule_id FOREIGN KEY (schedule_id) REFERENCES public.backup_schedules(id);


--
-- Name: restores fk_restores_backup_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.restores
    ADD CONSTRAINT fk_restores_backup_id FOREIGN KEY (backup_id) REFERENCES public.backup_history(id) ON DELETE SET NULL;


--
-- Name: restores fk_restores_safety_backup_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.restores
    ADD CONSTRAINT fk_restores_safety_backup_id FOREIGN KEY (safety_backup_id) REFERENCES public.backup_history(id) ON DELETE SET NULL;


--
-- PostgreSQL database dump complete
--


