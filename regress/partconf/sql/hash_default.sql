-- The default hash is hashtext(lower(key)) for every key, in databases of all kinds.
\set SHOW_CONTEXT never
set client_min_messages = warning;
delete from partconf.conf;
select current_database() as suite \gset

-- What each of them is asked: every character that there is alone, among others, and in pairs
-- with those that lower() looks at the neighbours of.
create function compare() returns table (characters boolean, words boolean, collations boolean) language plpgsql as $$
declare
    v_utf8 boolean := getdatabaseencoding() = 'UTF8';
    v_single boolean := pg_encoding_max_length(pg_char_to_encoding(getdatabaseencoding())) = 1;
    v_char text;
    v_key text;
    v_differ bigint := 0;
    v_asked bigint := 0;
begin
    for i in 1 .. case when v_utf8 then 70000 when v_single then 255 else 127 end loop
        continue when v_utf8 and i between 55296 and 57343;
        begin
            v_char := chr(i);
        exception when others then
            continue;
        end;
        foreach v_key in array array[v_char, 'aB' || v_char || 'cD', v_char || 'I', v_char || v_char] loop
            v_asked := v_asked + 1;
            if partconf.get_hash(v_key) <> hashtext(lower(v_key)) then
                v_differ := v_differ + 1;
            end if;
        end loop;
    end loop;
    characters := v_differ = 0 and v_asked >= 4 * 127;
    -- of all lengths around that of the buffer, and random ones
    perform setseed(0.5);
    select bool_and(partconf.get_hash(k.key) = hashtext(lower(k.key)))
      into words
      from (select repeat('xY', n) || repeat('Z', n % 2) as key from generate_series(0, 300) n
            union all
            select string_agg(chr(32 + (random() * 94)::int), '') from generate_series(1, 40000) n group by n % 2000
            union all
            select string_agg(chr(case when v_utf8 then 192 + (random() * 1100)::int else 65 + (random() * 60)::int end), '')
              from generate_series(1, 40000) n group by n % 4000) k (key);
    -- the collation of the argument makes no difference
    collations := partconf.get_hash('ÉTITLE' collate "C") = hashtext(lower('ÉTITLE'::text));
    return next;
end;
$$;
\set definition `sed -n '/^create function compare/,/^\$\$;/p' sql/hash_default.sql`

select * from compare();
drop function compare();
create database partconf_c template template0 encoding 'UTF8' lc_collate 'C' lc_ctype 'C';
create database partconf_latin1 template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C';
create database partconf_ascii template template0 encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C';
create database partconf_eucjp template template0 encoding 'EUC_JP' lc_collate 'C' lc_ctype 'C';
\c partconf_c
set client_min_messages = warning;
create extension partconf;
:definition
select * from compare();
\c partconf_latin1
set client_min_messages = warning;
set client_encoding = 'UTF8';
create extension partconf;
:definition
select * from compare();
select cardinality(partconf._probes(null)) as probes;
\c partconf_ascii
set client_min_messages = warning;
create extension partconf;
:definition
select * from compare();
\c partconf_eucjp
set client_min_messages = warning;
set client_encoding = 'UTF8';
create extension partconf;
:definition
select characters, words from compare();

-- ICU's languages: in Turkish the small letter of I is another one. Databases have had them
-- since PostgreSQL 15, if the server is built with it; else this asks the one in C once more.
\c :suite
set client_min_messages = warning;
select current_setting('server_version_num')::int >= 150000
       and exists (select from pg_collation where collprovider = 'i') as has_icu \gset
\if :has_icu
create database partconf_tr template template0 encoding 'UTF8' locale_provider icu icu_locale 'tr' locale 'C';
create database partconf_en template template0 encoding 'UTF8' locale_provider icu icu_locale 'en' locale 'C';
\else
create database partconf_tr template partconf_c;
create database partconf_en template partconf_c;
\endif
\c partconf_tr
set client_min_messages = warning;
create extension if not exists partconf;
drop function if exists compare();
:definition
select * from compare();
select partconf._probes(null) as probes \gset
\if :has_icu
select partconf.get_hash('TITLE') = hashtext('tıtle') as turkish;
\else
select true as turkish;
\endif
\c partconf_en
set client_min_messages = warning;
create extension if not exists partconf;
drop function if exists compare();
:definition
select * from compare();
-- probes tell them apart
\if :has_icu
select partconf._probes(null) <> :'probes'::int[] as apart;
\else
select true as apart;
\endif
\c :suite
set client_min_messages = warning;
drop database partconf_c;
drop database partconf_latin1;
drop database partconf_ascii;
drop database partconf_eucjp;
drop database partconf_tr;
drop database partconf_en;
