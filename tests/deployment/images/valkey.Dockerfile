FROM debian:stand-in
RUN { userdel valkey; groupdel valkey; } 2>/dev/null; groupadd -r -g 998 valkey && useradd -r -g valkey -u 998 valkey && install -d -o valkey -g valkey -m 1777 /data
COPY valkey-server /usr/local/bin/
COPY valkey-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
EXPOSE 6379
CMD ["valkey-server"]
