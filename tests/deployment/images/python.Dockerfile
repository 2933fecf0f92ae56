FROM debian:stand-in
COPY local /usr/local
COPY ca /usr/local/share/ca-certificates
COPY pip.conf /etc/pip.conf
RUN ldconfig && update-ca-certificates 2>/dev/null && python3 -c 'import ssl, sqlite3, lzma, bz2, ctypes, zlib, uuid'
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
CMD ["python3"]
